//! Settings of each `[[shops]]` table.

use stock::MAX_COUNT;
use stock_import::stock_rules::Combine;

use super::Setting;
use crate::config::reader::SettingsReader;
use crate::config::values::{
    BasePath, CampaignOrBusiness, FilePath, MarketId, SecretText, Share, TableName,
    UnavailableStatus, Whole,
};
use crate::migrator::Mode;
use crate::push_api::stocks_handler::UnknownSku;

settings! {
    /// Settings of each `[[shops]]` table.
    SHOP_SETTINGS for ShopTable;

    /// Name of the shop in logs, metrics, commands and the store. Choose it once: under a new name
    /// it is a new shop without stock. Never swap the names of two shops: each would get the stock
    /// of the other.
    name: TableName, "1 to 40 of a-z, 0-9, - and _, beginning with a letter or a digit"
        .example("\"moscow\"").required();
    /// The Market's ids of the warehouses that share this stock. List all warehouses of a group.
    /// `stockbridge discover` prints them.
    warehouses: Vec<MarketId>, "a list of the Market's warehouse ids, whole numbers from 1"
        .example("[569667]").required();
    /// Path before /stocks in the address that the Market has for this shop. Shops may share it:
    /// then the warehouse id of the request selects the shop.
    base_path: BasePath,
        "empty, or a path such as /market/api/Moscow of letters, digits and -._~ without the \
        segments campaigns and businesses".default("").example("\"/market/api/Moscow\"");
    /// Campaign to which the stock is sent. The seller's programs may update the shop under this
    /// id. Of a group of warehouses choose any one campaign: the Market copies the stock to the
    /// others.
    campaign: MarketId, "a campaign id, a whole number from 1".example("12345").required();
    /// Further campaigns under which the seller's programs may update the same stock. List the
    /// other campaigns of a group, so that programs that update each of them need no change.
    feed_campaigns: Vec<MarketId>, "a list of campaign ids, whole numbers from 1"
        .default("").example("[12346, 12347]");
    /// API method with which stock is sent. campaign is for most shops. business sends all
    /// warehouses of the cabinet by their own ids and needs `business`.
    method: CampaignOrBusiness, "campaign or business".default("campaign").example("\"campaign\"");
    /// Id of the cabinet. Set it for the method business, and if programs update the stock by
    /// business. `stockbridge discover` prints it.
    business: Option<MarketId>,
        "a business id, a whole number from 1; needed by the method business".example("67890");
    /// Ids of the same warehouses in the methods by business. Set it only if `stockbridge discover`
    /// prints other ids than in `warehouses`.
    partner_warehouses: Vec<MarketId>,
        "a list of the ids the method business uses, whole numbers from 1; empty means as \
        warehouses".default("").example("[48123456]");
    /// Token in the Authorization header of the Market's requests, as the cabinet shows it. A
    /// request with another token gets 403.
    push_token_file: Option<SecretText>, "a file that holds the token the Market sends"
        .example("\"secrets/push_token\"").required().secret().live();
    /// Second token that is also accepted. Set it while the token changes in the cabinet, so that
    /// one of both is always valid.
    push_token_2_file: Option<SecretText>, "a file that holds a second token, for a change"
        .example("\"secrets/push_token_2\"").secret().live();
    /// Key that the seller's programs send as Api-Key to update stock here. Make one with `openssl
    /// rand -hex 24`. A shop that has sources needs none.
    feed_key_file: Option<SecretText>,
        "a file that holds the key the seller's program sends us, at least 8 characters"
        .example("\"secrets/feed_key\"").required().chosen_secret().live();
    /// Second key that is also accepted, while programs change from one to the other.
    feed_key_2_file: Option<SecretText>,
        "a file that holds a second key, for a change, at least 8 characters"
        .example("\"secrets/feed_key_2\"").chosen_secret().live();
    /// Api-Key of the cabinet with which stock is sent and read back. It needs the access rights
    /// that `stockbridge doctor` names. Not needed with migrate = "off".
    api_key_file: Option<SecretText>, "a file that holds our Api-Key for the Market"
        .example("\"secrets/api_key\"").required().secret().live();
    /// Second Api-Key, while you replace the first one in the cabinet.
    api_key_2_file: Option<SecretText>,
        "a file that holds a second Api-Key, tried if one is refused"
        .example("\"secrets/api_key_2\"").secret().live();
    /// Sending to the Market. on sends. dry-run computes and reports what would be sent, reads the
    /// Market's stock and changes nothing. off never calls the Market. Start with dry-run if the
    /// Market has stock that you want to compare first.
    migrate: Mode, "on, dry-run or off".default("on").example("\"dry-run\"");
    /// Requests to the Market that run at a time for this campaign. Set 1 if other programs send
    /// with the same key.
    parallel: Whole<1, 4>, "a whole number between 1 and 4".default("2").example("1");
    /// Part of the Market's rate limit that stockbridge uses. Lower it if other programs update the
    /// same campaign.
    limit_share: Share<1>, "a number between 0.01 and 1.0".default("1.0").example("0.5");
    /// Response for a SKU whose stock was never stated. omit leaves the SKU out, and the Market
    /// keeps its number. zero answers 0: the product cannot be bought. fail answers the whole
    /// request with an error. Use zero only if your program states every SKU that is in stock.
    unknown_sku: UnknownSku, "omit, zero or fail".default("omit").example("\"omit\"");
    /// Status of the response while the shop has no stock at all, so that an empty shop is never
    /// answered with an empty list.
    unavailable_status: UnavailableStatus, "500 or 503".default("503").example("503");
    /// How the numbers of several sources become one: the newest statement, their sum, the smallest
    /// one, or that of the first source in the configuration that has the SKU. Use sum if each
    /// source is a warehouse of its own.
    combine: Combine, "latest, sum, minimum or first".default("latest").example("\"sum\"").live();
    /// Pieces that are subtracted from every number of the sources and never offered. Use it if the
    /// same stock is sold elsewhere and updates take time. Numbers of programs are not changed.
    buffer: Whole<0, 1_000_000>, "pieces kept back, a whole number up to 1000000"
        .default("0").example("1").live();
    /// Smallest number of the sources that is offered. A smaller one becomes 0. Use it for stock
    /// that is often wrong by a piece.
    zero_below: Whole<0, 1_000_000>, "pieces, a whole number up to 1000000"
        .default("0").example("3").live();
    /// Largest number of the sources that is offered. A larger one becomes this one. Use it to hide
    /// how much you have.
    cap: Option<Whole<0, MAX_COUNT>>, "pieces, a whole number up to 2000000000"
        .example("500").live();
    /// Rules of single SKUs. `count` fixes the number whatever sources state; an empty cell keeps
    /// the value of the shop. Use it to stop the sale of one product.
    overrides_file: Option<FilePath>,
        "a CSV file with the columns sku, count, buffer, zero_below and cap"
        .example("\"overrides.csv\"").live().per_machine();
}
