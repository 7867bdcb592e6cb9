//! Fuzz targets for responses that the service receives.

use connectors::moysklad::fuzzing;
use market_api::partner::readback_page::{
    OfferList, ReadbackPage, ReadbackQuery, ReadbackSelection,
};
use market_api::push::parse_lenient;

use crate::files::check_row;
use crate::values::settings;

/// Parses the response of a seller's old handler.
pub(crate) fn stocks_response(bytes: &[u8]) {
    let _ignored = parse_lenient::parse(bytes, 1);
}

/// Parses a read-back page of the Market.
pub(crate) fn market_page(bytes: &[u8]) {
    let selection = ReadbackSelection::List {
        list: OfferList::Active,
        token: None,
    };
    let _ignored = ReadbackPage::read(
        bytes,
        &ReadbackQuery {
            warehouses: vec![1, 2],
            selection,
        },
    );
}

/// Parses two responses of MoySklad, separated by a byte 0: a page of the assortment and a report.
pub(crate) fn moysklad(bytes: &[u8]) {
    let cut = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    let (page, report) = bytes.split_at(cut);
    let report = report.strip_prefix(b"\0").unwrap_or(report);
    let reading = settings(bytes.len());
    for entry in fuzzing::read(page, report, &reading) {
        check_row(&entry, &reading);
    }
}
