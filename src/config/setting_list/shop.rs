//! Settings of each `[[shops]]` table.

use super::Setting;

/// Settings of each `[[shops]]` table.
pub const SHOP_SETTINGS: &[Setting] = &[
    Setting::new(
        "name",
        "1 to 40 of a-z, 0-9, - and _, beginning with a letter or a digit",
    )
    .required()
    .effect(
        "Name of the shop in logs, metrics, commands and the store. Choose it once: under a new \
         name it is a new shop without stock. Never swap the names of two shops: each would get \
         the stock of the other.",
    )
    .example("\"moscow\""),
    Setting::new(
        "warehouses",
        "a list of the Market's warehouse ids, whole numbers from 1",
    )
    .required()
    .effect(
        "The Market's ids of the warehouses that share this stock. List all warehouses of a \
         group. `stockbridge discover` prints them.",
    )
    .example("[569667]"),
    Setting::new(
        "base_path",
        "empty, or a path such as /market/api/Moscow of letters, digits and -._~ without the \
         segments campaigns and businesses",
    )
    .default("")
    .effect(
        "Path before /stocks in the address that the Market has for this shop. Shops may share \
         it: then the warehouse id of the request selects the shop.",
    )
    .example("\"/market/api/Moscow\""),
    Setting::new("campaign", "a campaign id, a whole number from 1")
        .required()
        .effect(
            "Campaign to which the stock is sent. The seller's programs may update the shop under \
             this id. Of a group of warehouses choose any one campaign: the Market copies the \
             stock to the others.",
        )
        .example("12345"),
    Setting::new("feed_campaigns", "a list of campaign ids, whole numbers from 1")
        .default("")
        .effect(
            "Further campaigns under which the seller's programs may update the same stock. List \
             the other campaigns of a group, so that programs that update each of them need no \
             change.",
        )
        .example("[12346, 12347]"),
    Setting::new("method", "campaign or business")
        .default("campaign")
        .effect(
            "API method with which stock is sent. campaign is for most shops. business sends all \
             warehouses of the cabinet by their own ids and needs `business`.",
        )
        .example("\"campaign\""),
    Setting::new(
        "business",
        "a business id, a whole number from 1; needed by the method business",
    )
    .effect(
        "Id of the cabinet. Set it for the method business, and if programs update the stock by \
         business. `stockbridge discover` prints it.",
    )
    .example("67890"),
    Setting::new(
        "partner_warehouses",
        "a list of the ids the method business uses, whole numbers from 1; empty means as warehouses",
    )
    .default("")
    .effect(
        "Ids of the same warehouses in the methods by business. Set it only if `stockbridge \
         discover` prints other ids than in `warehouses`.",
    )
    .example("[48123456]"),
    Setting::new("push_token_file", "a file that holds the token the Market sends")
        .required()
        .effect(
            "Token in the Authorization header of the Market's requests, as the cabinet shows it. \
             A request with another token gets 403.",
        )
        .example("\"secrets/push_token\""),
    Setting::new(
        "push_token_2_file",
        "a file that holds a second token, for a change",
    )
    .effect(
        "Second token that is also accepted. Set it while the token changes in the cabinet, so \
         that one of both is always valid.",
    )
    .example("\"secrets/push_token_2\""),
    Setting::new(
        "feed_key_file",
        "a file that holds the key the seller's program sends us, at least 8 characters",
    )
    .required()
    .effect(
        "Key that the seller's programs send as Api-Key to update stock here. Make one with \
         `openssl rand -hex 24`. A shop that has sources needs none.",
    )
    .example("\"secrets/feed_key\""),
    Setting::new(
        "feed_key_2_file",
        "a file that holds a second key, for a change, at least 8 characters",
    )
    .effect("Second key that is also accepted, while programs change from one to the other.")
    .example("\"secrets/feed_key_2\""),
    Setting::new("api_key_file", "a file that holds our Api-Key for the Market")
        .required()
        .effect(
            "Api-Key of the cabinet with which stock is sent and read back. It needs the access \
             rights that `stockbridge doctor` names. Not needed with migrate = \"off\".",
        )
        .example("\"secrets/api_key\""),
    Setting::new(
        "api_key_2_file",
        "a file that holds a second Api-Key, tried if one is refused",
    )
    .effect("Second Api-Key, while you replace the first one in the cabinet.")
    .example("\"secrets/api_key_2\""),
    Setting::new("migrate", "on, dry-run or off")
        .default("on")
        .effect(
            "Sending to the Market. on sends. dry-run computes and reports what would be sent, \
             reads the Market's stock and changes nothing. off never calls the Market. Start with \
             dry-run if the Market has stock that you want to compare first.",
        )
        .example("\"dry-run\""),
    Setting::new("parallel", "a whole number between 1 and 4")
        .default("2")
        .effect(
            "Requests to the Market that run at a time for this campaign. Set 1 if other programs \
             send with the same key.",
        )
        .example("1"),
    Setting::new("limit_share", "a number between 0.01 and 1.0")
        .default("1.0")
        .effect(
            "Part of the Market's rate limit that stockbridge uses. Lower it if other programs \
             update the same campaign.",
        )
        .example("0.5"),
    Setting::new("unknown_sku", "omit, zero or fail")
        .default("omit")
        .effect(
            "Response for a SKU whose stock was never stated. omit leaves the SKU out, and the \
             Market keeps its number. zero answers 0: the product cannot be bought. fail answers \
             the whole request with an error. Use zero only if your program states every SKU that \
             is in stock.",
        )
        .example("\"omit\""),
    Setting::new("unavailable_status", "500 or 503")
        .default("503")
        .effect(
            "Status of the response while the shop has no stock at all, so that an empty shop is \
             never answered with an empty list.",
        )
        .example("503"),
    Setting::new("combine", "latest, sum, minimum or first")
        .default("latest")
        .effect(
            "How the numbers of several sources become one: the newest statement, their sum, the \
             smallest one, or that of the first source in the configuration that has the SKU. Use \
             sum if each source is a warehouse of its own.",
        )
        .example("\"sum\""),
    Setting::new("buffer", "pieces kept back, a whole number up to 1000000")
        .default("0")
        .effect(
            "Pieces that are subtracted from every number of the sources and never offered. Use it \
             if the same stock is sold elsewhere and updates take time. Numbers of programs are \
             not changed.",
        )
        .example("1"),
    Setting::new("zero_below", "pieces, a whole number up to 1000000")
        .default("0")
        .effect(
            "Smallest number of the sources that is offered. A smaller one becomes 0. Use it for \
             stock that is often wrong by a piece.",
        )
        .example("3"),
    Setting::new("cap", "pieces, a whole number up to 2000000000")
        .effect(
            "Largest number of the sources that is offered. A larger one becomes this one. Use it \
             to hide how much you have.",
        )
        .example("500"),
    Setting::new(
        "overrides_file",
        "a CSV file with the columns sku, count, buffer, zero_below and cap",
    )
    .effect(
        "Rules of single SKUs. `count` fixes the number whatever sources state; an empty cell \
         keeps the value of the shop. Use it to stop the sale of one product.",
    )
    .example("\"overrides.csv\""),
];
