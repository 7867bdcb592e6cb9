//! Shops for the configuration, planned from the Market's lists without further requests.
//!
//! Decides which warehouses form one shop, the campaign that carries its stock, and the campaigns
//! that are skipped. Each decision becomes a comment in the output.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use market_api::partner::account::{MarketCampaign, MarketWarehouse};

use super::shop_name::ShopNames;
use super::stock_list::{StockList, by_group, by_partner_warehouse};
use crate::setup::account_probe::{AccountProbe, id_with_name, join_ids, one_line};

/// The planned configuration, in the order of its output.
#[derive(Debug, Default)]
pub(super) struct ShopPlan {
    pub(super) sections: Vec<PlanSection>,
}

/// A table of the configuration, or comment lines that explain why there is none.
#[derive(Debug)]
pub(super) enum PlanSection {
    Note(Vec<String>),
    Shop(ShopConfigTable),
}

/// One `[[shops]]` table.
#[derive(Debug)]
pub(super) struct ShopConfigTable {
    /// Reasons of the decisions.
    comments: Vec<String>,
    name: String,
    pub(super) warehouses: Vec<u64>,
    pub(super) campaign: u64,
    pub(super) feed_campaigns: Vec<u64>,
    pub(super) method: PlannedMethod,
    api_key_file: String,
}

/// Method by which the stock is sent.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum PlannedMethod {
    Campaign,
    /// `partner_warehouses` is empty if the ids are unknown.
    Business {
        business: u64,
        partner_warehouses: Vec<u64>,
    },
}

/// Plans the shops of all cabinets. `api_key_file` is a setting of each table.
pub(super) fn plan_shops(
    campaigns: &[MarketCampaign],
    accounts: &BTreeMap<u64, AccountProbe>,
    api_key_file: &str,
) -> ShopPlan {
    let mut planner = ShopPlanner {
        campaigns: campaigns
            .iter()
            .map(|campaign| (campaign.id, campaign))
            .collect(),
        used_campaigns: BTreeMap::new(),
        names: ShopNames::default(),
        api_key_file,
        plan: ShopPlan::default(),
    };
    for (business, account) in accounts {
        planner.plan_account(*business, account);
    }
    planner.note_unlisted_campaigns(accounts);
    planner.plan
}

struct ShopPlanner<'a> {
    campaigns: BTreeMap<u64, &'a MarketCampaign>,
    /// Campaigns that are in a table, with the shop's name. A campaign may be in one table only.
    used_campaigns: BTreeMap<u64, String>,
    names: ShopNames,
    api_key_file: &'a str,
    plan: ShopPlan,
}

impl<'p> ShopPlanner<'p> {
    fn note(&mut self, lines: Vec<String>) {
        self.plan.sections.push(PlanSection::Note(lines));
    }

    fn plan_account(&mut self, business: u64, cabinet: &AccountProbe) {
        let name = self.campaigns.values().find_map(|campaign| {
            let business_info = campaign
                .business
                .as_ref()
                .filter(|info| info.id == Some(business))?;
            business_info.name.as_deref()
        });
        let account_name = id_with_name(business, name.unwrap_or_default());
        let warehouses = match &cabinet.warehouses {
            Ok(list) => list,
            Err(error) => {
                let text =
                    format!("Cabinet {account_name}: the warehouses cannot be listed: {error}.");
                return self.note(vec![one_line(&text)]);
            }
        };
        let groups: BTreeSet<u64> = warehouses
            .iter()
            .filter_map(MarketWarehouse::group)
            .collect();
        self.note(vec![format!(
            "Cabinet {account_name}. Warehouses: {}, warehouse groups: {}.",
            warehouses.len(),
            groups.len()
        )]);
        let stock_lists = if groups.is_empty() {
            by_partner_warehouse(business, cabinet, warehouses)
        } else {
            by_group(warehouses)
        };
        for stock_list in stock_lists {
            self.plan_shop(stock_list);
        }
    }

    fn plan_shop(&mut self, stock: StockList<'_>) {
        let mut comments = stock.comments;
        let switched_off = stock.warehouses.iter().filter(|w| w.is_disabled());
        comments.extend(switched_off.map(|warehouse| {
            format!(
                "Warehouse {} is disabled in the cabinet.",
                id_with_name(warehouse.id, warehouse.name())
            )
        }));
        let (mut usable, skipped) = self.candidates(&stock.warehouses);
        comments.extend(skipped);
        // A campaign whose warehouse is disabled, or for express delivery, is the last choice.
        usable.sort_by_key(|(warehouse, campaign)| {
            (
                warehouse.is_disabled(),
                warehouse.express == Some(true),
                campaign.id,
            )
        });
        usable.dedup_by_key(|(_, campaign)| campaign.id);
        let Some(((_, picked), others)) = usable.split_first() else {
            comments.push("No campaign remains, so this stock has no table.".to_owned());
            return self.note(comments);
        };
        comments.extend(choice_comments(&usable));
        let name = self.names.derive(stock.name, picked.name(), picked.id);
        self.used_campaigns.extend(
            usable
                .iter()
                .map(|(_, campaign)| (campaign.id, name.clone())),
        );
        let mut warehouses: Vec<u64> = stock.warehouses.iter().map(|w| w.id).collect();
        warehouses.sort_unstable();
        warehouses.dedup();
        self.plan.sections.push(PlanSection::Shop(ShopConfigTable {
            comments,
            name,
            warehouses,
            campaign: picked.id,
            feed_campaigns: others.iter().map(|(_, campaign)| campaign.id).collect(),
            method: stock.method,
            api_key_file: self.api_key_file.to_owned(),
        }));
    }

    /// Returns the campaigns that can carry this stock, and a comment for each one that cannot.
    fn candidates<'w>(
        &self,
        warehouses: &[&'w MarketWarehouse],
    ) -> (Vec<(&'w MarketWarehouse, &'p MarketCampaign)>, Vec<String>) {
        let (mut usable, mut skipped) = (Vec::new(), Vec::new());
        for warehouse in warehouses {
            let Some(id) = warehouse.campaign_id else {
                let name = id_with_name(warehouse.id, warehouse.name());
                skipped.push(format!("Warehouse {name} belongs to no campaign."));
                continue;
            };
            let obstacle = match (self.campaigns.get(&id), self.used_campaigns.get(&id)) {
                (None, _) => Some("this key does not see it".to_owned()),
                (Some(_), Some(table)) => Some(format!(
                    "it is already in the table {table}, and a campaign has one stock only"
                )),
                (Some(campaign), None) => campaign.sending_obstacle(),
            };
            match (obstacle, self.campaigns.get(&id)) {
                (None, Some(campaign)) => usable.push((*warehouse, *campaign)),
                (obstacle, campaign) => skipped.push(format!(
                    "Campaign {} is skipped: {}.",
                    id_with_name(id, campaign.map_or("", |campaign| campaign.name())),
                    obstacle.unwrap_or_default()
                )),
            }
        }
        (usable, skipped)
    }

    /// Adds comments about campaigns without a warehouse. Most often the Market stores their goods.
    fn note_unlisted_campaigns(&mut self, accounts: &BTreeMap<u64, AccountProbe>) {
        let is_listed = |campaign: &MarketCampaign| {
            let account = campaign
                .business_id()
                .and_then(|business| accounts.get(&business));
            account.is_some_and(|account| {
                // Without the list of warehouses, this is unknown.
                account.warehouses.is_err()
                    || account
                        .warehouses()
                        .iter()
                        .any(|w| w.campaign_id == Some(campaign.id))
            })
        };
        let unlisted = self
            .campaigns
            .values()
            .filter(|campaign| !is_listed(campaign));
        let notes: Vec<String> = unlisted
            .map(|campaign| {
                let reason = campaign.sending_obstacle();
                let reason = reason.unwrap_or_else(|| match campaign.business_id() {
                    Some(_) => "it has no warehouse".to_owned(),
                    None => "the Market does not state its cabinet".to_owned(),
                });
                let name = id_with_name(campaign.id, campaign.name());
                format!("Campaign {name} is skipped: {reason}.")
            })
            .collect();
        if !notes.is_empty() {
            self.note(notes);
        }
    }
}

/// Explains the choice of the campaign, and names the warehouses for express delivery.
fn choice_comments(usable: &[(&MarketWarehouse, &MarketCampaign)]) -> Vec<String> {
    let describe = |(_, campaign): &(&MarketWarehouse, &MarketCampaign)| {
        let kind = campaign.placement_type.as_deref().unwrap_or("unknown kind");
        format!(
            "{} ({})",
            id_with_name(campaign.id, campaign.name()),
            one_line(kind)
        )
    };
    let mut lines = Vec::new();
    match usable {
        [only] => lines.push(format!("Campaign {}.", describe(only))),
        [picked, others @ ..] => {
            lines.push(format!(
                "Campaign {} is used, the first one that is open. The others share its stock, and \
                 the seller's program may send updates to any of them: {}.",
                describe(picked),
                others.iter().map(describe).collect::<Vec<_>>().join(", ")
            ));
        }
        [] => {}
    }
    let express: BTreeSet<u64> = usable
        .iter()
        .filter(|(w, _)| w.express == Some(true))
        .map(|(w, _)| w.id)
        .collect();
    if !express.is_empty() {
        lines.push(format!(
            "Warehouses with express delivery: {}.",
            join_ids(express)
        ));
    }
    lines
}

// === Text of the configuration ===

impl ShopPlan {
    /// Returns the tables without the comments between them.
    pub(super) fn shops(&self) -> impl Iterator<Item = &ShopConfigTable> {
        self.sections.iter().filter_map(|section| match section {
            PlanSection::Shop(table) => Some(table),
            PlanSection::Note(_) => None,
        })
    }
}

impl fmt::Display for ShopPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sections.iter().try_for_each(|section| match section {
            PlanSection::Note(lines) => {
                lines.iter().try_for_each(|line| writeln!(f, "# {line}"))?;
                writeln!(f)
            }
            PlanSection::Shop(table) => writeln!(f, "{table}"),
        })
    }
}

impl fmt::Display for ShopConfigTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        self.comments
            .iter()
            .try_for_each(|line| writeln!(f, "# {line}"))?;
        writeln!(f, "[[shops]]\nname = \"{name}\"")?;
        writeln!(f, "warehouses = {:?}", self.warehouses)?;
        f.write_str("# The path before /stocks in the address that is set in the cabinet.\n")?;
        writeln!(f, "base_path = \"/{name}\"\ncampaign = {}", self.campaign)?;
        if !self.feed_campaigns.is_empty() {
            writeln!(f, "feed_campaigns = {:?}", self.feed_campaigns)?;
        }
        match &self.method {
            PlannedMethod::Campaign => writeln!(f, "method = \"campaign\"")?,
            PlannedMethod::Business {
                business,
                partner_warehouses,
            } => {
                writeln!(f, "method = \"business\"\nbusiness = {business}")?;
                if partner_warehouses.is_empty() {
                    writeln!(f, "migrate = \"off\"")?;
                } else {
                    writeln!(f, "partner_warehouses = {partner_warehouses:?}")?;
                }
            }
        }
        writeln!(f, "push_token_file = \"{name}.push_token\"")?;
        writeln!(f, "feed_key_file = \"{name}.feed_key\"")?;
        let api_key_file = toml::Value::from(self.api_key_file.as_str());
        writeln!(f, "api_key_file = {api_key_file}")
    }
}
