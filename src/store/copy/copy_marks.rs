//! Marks of a copy: notes of the whole store that make a start refuse one of the two ends.

use crate::store::StoreError;
use crate::store::notes::{NoteRow, STORE_WIDE};

/// Mark of one end of a copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) enum CopyMark {
    /// The store is a copy that was not compared with its source yet.
    Unfinished,
    /// The store was copied to another place, where its changes go on.
    CopiedTo,
}

/// Text of a mark: the other end, and the time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::store) struct CopiedTo(String);

/// Separates the place from the time.
const AT: &str = " at ";

impl CopyMark {
    /// Returns the name of the note.
    pub(in crate::store) fn name(self) -> &'static str {
        match self {
            Self::Unfinished => "copy_unfinished",
            Self::CopiedTo => "copied_to",
        }
    }

    /// Returns the text of the note.
    pub(super) fn text(self, other_end: &str, at: &str) -> String {
        format!("{other_end}{AT}{at}")
    }

    /// Returns the text of the mark among the notes of a store.
    pub(in crate::store) fn find(self, notes: &[NoteRow]) -> Option<&str> {
        let is_mark = |note: &&NoteRow| note.shop == STORE_WIDE && note.name == self.name();
        notes.iter().find(is_mark).map(|note| note.text.as_str())
    }
}

impl CopiedTo {
    pub(in crate::store) fn find(notes: &[NoteRow]) -> Option<Self> {
        let text = CopyMark::CopiedTo.find(notes)?;
        Some(Self(text.to_owned()))
    }

    /// Returns true if the store was copied to this place.
    pub(super) fn names(&self, place: &super::StorePlace) -> bool {
        let other = self.0.rsplit_once(AT).map(|(other, _)| other);
        other == Some(place.to_string().as_str())
    }

    pub(super) fn to_error(&self, place: &str) -> StoreError {
        StoreError::CopiedAway {
            place: place.to_owned(),
            copy: self.0.clone(),
        }
    }
}

/// Refuses a store that a service must not use because of a copy.
pub(in crate::store) fn check_marks(notes: &[NoteRow], place: &str) -> Result<(), StoreError> {
    if let Some(source) = CopyMark::Unfinished.find(notes) {
        return Err(StoreError::UnfinishedCopy {
            place: place.to_owned(),
            source_place: source.to_owned(),
        });
    }
    CopiedTo::find(notes).map_or(Ok(()), |copied| Err(copied.to_error(place)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::copy::StorePlace;

    fn note(mark: CopyMark, text: &str) -> NoteRow {
        NoteRow {
            shop: STORE_WIDE,
            name: mark.name().to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn marks_refuse_a_start() {
        assert!(check_marks(&[], "/here").is_ok());
        let text = CopyMark::CopiedTo.text("/data at home", "2026-12-01T08:00:00Z");
        let copied = [note(CopyMark::CopiedTo, &text)];
        let error = check_marks(&copied, "/here").unwrap_err().to_string();
        assert!(
            error.contains("of /here was copied to /data at home at 2026"),
            "{error}"
        );
        assert!(error.contains("--adopt"), "{error}");
        let unfinished = [note(CopyMark::Unfinished, "/there at 2026-12-01T08:00:00Z")];
        let error = check_marks(&unfinished, "/here").unwrap_err().to_string();
        assert!(error.contains("unfinished copy of /there"), "{error}");
    }

    #[test]
    fn mark_names_its_place() {
        let text = CopyMark::CopiedTo.text("/data at home", "2026-12-01T08:00:00Z");
        let mark = CopiedTo::find(&[note(CopyMark::CopiedTo, &text)]).unwrap();
        assert!(mark.names(&StorePlace::Directory("/data at home".into())));
        assert!(!mark.names(&StorePlace::Directory("/data".into())));
    }
}
