//! File names from 1C's requests and archives, checked so that they stay below the spool
//! directory.

use std::path::PathBuf;

use super::ExchangeError;

/// Longest part of a name between two slashes, in bytes; file systems take 255.
const MAX_SEGMENT_BYTES: usize = 200;

/// Most parts of a name.
const MAX_DEPTH: usize = 8;

/// Name of a file given by 1C; a safe relative path.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct FileName(String);

impl FileName {
    /// Reads `offers.xml`, `import_files/ab/abcd.jpg`, `goods\1\import.xml`.
    ///
    /// # Errors
    /// The name leads out of its directory, is empty, too long or too deep, or has control
    /// characters.
    pub(super) fn parse(text: &str) -> Result<Self, ExchangeError> {
        let text = text.trim().replace('\\', "/");
        // 1C on Linux puts its own temporary directory before the name.
        let text = text.strip_prefix("/tmp/").unwrap_or(&text);
        let segments: Vec<_> = text
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .collect();
        let is_valid_segment = |part: &&str| {
            *part != ".." && part.len() <= MAX_SEGMENT_BYTES && !part.contains(char::is_control)
        };
        if segments.is_empty()
            || segments.len() > MAX_DEPTH
            || !segments.iter().all(is_valid_segment)
        {
            let excerpt: String = text.chars().take(100).collect();
            let rule = "it must be the name of a file, such as offers.xml";
            return Err(ExchangeError::new(format!(
                "filename is '{}', {rule}",
                excerpt.escape_debug()
            )));
        }
        Ok(Self(segments.join("/")))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the path of the file below `directory`.
    pub(super) fn path_in(&self, directory: &std::path::Path) -> PathBuf {
        self.0
            .split('/')
            .fold(directory.to_owned(), |path, part| path.join(part))
    }

    pub(super) fn is_xml(&self) -> bool {
        self.ends_with(".xml")
    }

    pub(super) fn is_zip(&self) -> bool {
        self.ends_with(".zip")
    }

    /// True if the file may contain stock. All others are pictures.
    pub(super) fn is_needed(&self) -> bool {
        self.is_xml() || self.is_zip()
    }

    fn ends_with(&self, suffix: &str) -> bool {
        let start = self.0.len().saturating_sub(suffix.len());
        self.0
            .get(start..)
            .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn names_stay_below_their_directory() {
        for (text, path) in [
            ("offers.xml", "/s/offers.xml"),
            ("/offers.xml", "/s/offers.xml"),
            ("/tmp/v8_1A.zip", "/s/v8_1A.zip"),
            ("goods\\1\\import.xml", "/s/goods/1/import.xml"),
            ("./a//b.XML", "/s/a/b.XML"),
            ("Остатки 1.xml", "/s/Остатки 1.xml"),
            ("C:\\x.xml", "/s/C:/x.xml"),
        ] {
            let name = FileName::parse(text).unwrap();
            assert_eq!(name.path_in(Path::new("/s")), Path::new(path), "{text}");
        }
        let long = "x".repeat(201);
        for text in [
            "",
            "/",
            "..",
            "../x.xml",
            "a/../../x.xml",
            "..\\x.xml",
            "a\0.xml",
            "a\n.xml",
            &long,
            "a/b/c/d/e/f/g/h/i",
        ] {
            assert!(FileName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn keeps_only_xml_and_zip_files() {
        let kept = |text| FileName::parse(text).unwrap().is_needed();
        assert!(kept("offers.xml") && kept("OFFERS.XML") && kept("x/y.Zip"));
        assert!(!kept("import_files/1.jpg") && !kept("xml") && !kept("x.xml.php") && !kept("ф"));
    }
}
