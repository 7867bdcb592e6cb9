//! Pagination of a read-back: position in one list of offers, with loop detection.

use std::collections::HashSet;

use market_api::partner::readback_page::{ReadbackQuery, ReadbackSelection};

/// Number of restarts of one list after which the pass is aborted, because pagination makes no
/// progress.
const MAX_RESTARTS: u32 = 3;

/// Position in one list of offers, or SKUs to query.
pub(super) struct PageCursor {
    pub(super) query: ReadbackQuery,
    // Page tokens that were followed already, to detect a loop.
    followed_tokens: HashSet<String>,
    restarts: u32,
    // Counted per list, because a restart of the list counts again.
    pub(super) not_ours: u64,
}

impl PageCursor {
    pub(super) fn new(query: ReadbackQuery) -> Self {
        Self {
            query,
            followed_tokens: HashSet::new(),
            restarts: 0,
            not_ours: 0,
        }
    }

    /// Moves to the next page. Returns false if there is none, and an error if the next page was
    /// read already.
    ///
    /// An empty page whose next token is its own ends the list. Missing SKUs are queried later.
    pub(super) fn advance(&mut self, next: Option<String>, is_empty: bool) -> Result<bool, ()> {
        let ReadbackSelection::List { token, .. } = &mut self.query.selection else {
            return Ok(false);
        };
        if is_empty && next.is_some() && next == *token {
            return Ok(false);
        }
        *token = next;
        match token {
            None => Ok(false),
            Some(token) if self.followed_tokens.insert(token.clone()) => Ok(true),
            Some(_) => Err(()),
        }
    }

    /// Moves to the first page. Returns false after [`MAX_RESTARTS`].
    pub(super) fn restart(&mut self) -> bool {
        if let ReadbackSelection::List { token, .. } = &mut self.query.selection {
            *token = None;
        }
        self.followed_tokens.clear();
        self.not_ours = 0;
        self.restarts += 1;
        self.restarts <= MAX_RESTARTS
    }
}

#[cfg(test)]
mod tests {
    use market_api::partner::readback_page::OfferList;

    use super::*;

    fn first_page() -> PageCursor {
        PageCursor::new(ReadbackQuery {
            warehouses: vec![7],
            selection: ReadbackSelection::List {
                list: OfferList::Active,
                token: None,
            },
        })
    }

    #[test]
    fn empty_page_with_its_own_token_ends_the_list() {
        let token = |text: &str| Some(text.to_owned());
        let mut cursor = first_page();
        assert_eq!(cursor.advance(token("a"), false), Ok(true));
        assert_eq!(
            cursor.advance(token("b"), true),
            Ok(true),
            "an empty page with another token"
        );
        assert_eq!(cursor.advance(token("b"), true), Ok(false));
        let mut cursor = first_page();
        assert_eq!(cursor.advance(token("a"), false), Ok(true));
        assert_eq!(
            cursor.advance(token("a"), false),
            Err(()),
            "a page with offers and its own token"
        );
    }
}
