//! Opens what `quorate append` reads.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::exit::Failure;

/// An opened input.
pub struct Source {
    /// The bytes.
    pub reader: Box<dyn Read + Send>,
    /// Its length where it has one: a regular file, also as redirected stdin. Only such an input
    /// can be read again from the start.
    pub len: Option<u64>,
    /// What to call it.
    pub name: String,
}

/// Opens `path`, or stdin for `-`.
///
/// # Errors
/// [`Failure`] naming the file.
pub fn open(path: &Path) -> Result<Source, Failure> {
    let (file, name) = if path == Path::new("-") {
        (stdin(), "stdin".to_owned())
    } else {
        (File::open(path), path.display().to_string())
    };
    let failed = |e: &io::Error| Failure::refused(format!("{name} cannot be read: {e}"));
    let file = file.map_err(|e| failed(&e))?;
    let meta = file.metadata().map_err(|e| failed(&e))?;
    if meta.is_dir() {
        return Err(Failure::refused(format!("{name} is a directory")));
    }
    Ok(Source { len: meta.is_file().then_some(meta.len()), name, reader: Box::new(file) })
}

/// Stdin without the standard library's buffer: the splitter has its own.
fn stdin() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}
