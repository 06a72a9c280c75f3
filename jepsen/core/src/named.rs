//! Enums whose variants have a name for reports and command lines, and a sentence for people.

/// Declares such an enum. The sentence is also the documentation of its variant.
#[macro_export]
macro_rules! named {
    (
        $(#[$meta:meta])*
        $vis:vis enum $enum:ident { $(#[doc = $what:literal] $variant:ident = $name:literal,)* }
    ) => {
        $(#[$meta])*
        $vis enum $enum { $(#[doc = $what] $variant,)* }

        impl $enum {
            /// Every one there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in reports and on command lines.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it means, in one sentence.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }.trim_start()
            }
        }

        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
