//! quorate-jepsen
