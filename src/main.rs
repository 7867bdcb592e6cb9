//! The `stockbridge` program.

fn main() {}
