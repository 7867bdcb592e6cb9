//! Which shops a cabinet comes to: decided from what the Market listed, without asking it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::shop_name::ShopNames;
use crate::cli::account_probe::{AccountProbe, id_with_name, join_ids, one_line};
use crate::partner_api::account::{MarketCampaign, MarketPartnerWarehouse, MarketWarehouse};

/// What was decided.
#[derive(Debug, Default)]
pub(super) struct ShopPlan {
    pub(super) sections: Vec<PlanSection>,
}

/// A piece of the configuration, or of an explanation why there is none.
#[derive(Debug)]
pub(super) enum PlanSection {
    Note(Vec<String>),
    Shop(ShopConfigTable),
}

/// One `[[shops]]` table.
#[derive(Debug)]
pub(super) struct ShopConfigTable {
    /// Why it is as it is.
    comments: Vec<String>,
    name: String,
    pub(super) warehouses: Vec<u64>,
    pub(super) campaign: u64,
    pub(super) feed_campaigns: Vec<u64>,
    pub(super) method: PlannedMethod,
    api_key_file: String,
}

#[derive(Debug, Eq, PartialEq)]
pub(super) enum PlannedMethod {
    Campaign,
    /// `partner_warehouses` are empty if nobody could tell them.
    Business {
        business: u64,
        partner_warehouses: Vec<u64>,
    },
}

/// Warehouses that share one stock.
struct StockList<'a> {
    comments: Vec<String>,
    name: &'a str,
    warehouses: Vec<&'a MarketWarehouse>,
    method: PlannedMethod,
}

/// Plans the shops of every cabinet; `api_key_file` goes into each table.
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
    /// Campaigns that stand in a table, and its name: none may stand in two.
    used_campaigns: BTreeMap<u64, String>,
    names: ShopNames,
    api_key_file: &'a str,
    plan: ShopPlan,
}

impl<'p> ShopPlanner<'p> {
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
                let text = format!("Cabinet {account_name}: no list of warehouses. {error}");
                self.plan
                    .sections
                    .push(PlanSection::Note(vec![one_line(&text)]));
                return;
            }
        };
        let groups: BTreeSet<u64> = warehouses
            .iter()
            .filter_map(MarketWarehouse::group)
            .collect();
        self.plan.sections.push(PlanSection::Note(vec![format!(
            "Cabinet {account_name}. Warehouses: {}, groups of warehouses: {}.",
            warehouses.len(),
            groups.len()
        )]));
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
                "Warehouse {} is switched off in the cabinet.",
                id_with_name(warehouse.id, warehouse.name())
            )
        }));
        let (mut usable, skipped) = self.candidates(&stock.warehouses);
        comments.extend(skipped);
        // Not one that may be gone tomorrow if there is another.
        usable.sort_by_key(|(warehouse, campaign)| {
            (
                warehouse.is_disabled(),
                warehouse.express == Some(true),
                campaign.id,
            )
        });
        usable.dedup_by_key(|(_, campaign)| campaign.id);
        let Some(((_, picked), others)) = usable.split_first() else {
            comments.push("So there is no table for it.".to_owned());
            self.plan.sections.push(PlanSection::Note(comments));
            return;
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

    /// The campaigns that can carry this stock, and why the others cannot.
    fn candidates<'w>(
        &self,
        warehouses: &[&'w MarketWarehouse],
    ) -> (Vec<(&'w MarketWarehouse, &'p MarketCampaign)>, Vec<String>) {
        let (mut usable, mut skipped) = (Vec::new(), Vec::new());
        for warehouse in warehouses {
            let Some(id) = warehouse.campaign_id else {
                let name = id_with_name(warehouse.id, warehouse.name());
                skipped.push(format!("Warehouse {name} is of no campaign."));
                continue;
            };
            let obstacle = match (self.campaigns.get(&id), self.used_campaigns.get(&id)) {
                (None, _) => Some("this key does not see it".to_owned()),
                (Some(_), Some(table)) => Some(format!(
                    "it stands in the table {table} already, and by a campaign the Market is \
                     told of one stock only"
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

    /// Campaigns that no warehouse names: most often those whose goods the Market keeps.
    fn note_unlisted_campaigns(&mut self, accounts: &BTreeMap<u64, AccountProbe>) {
        let is_listed = |campaign: &MarketCampaign| {
            let account = campaign
                .business_id()
                .and_then(|business| accounts.get(&business));
            account.is_some_and(|account| {
                // Without a list nothing can be said.
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
                    None => "the Market does not say of which cabinet it is".to_owned(),
                });
                let name = id_with_name(campaign.id, campaign.name());
                format!("Campaign {name} is skipped: {reason}.")
            })
            .collect();
        if !notes.is_empty() {
            self.plan.sections.push(PlanSection::Note(notes));
        }
    }
}

/// Why this campaign of several, and what is special about them.
fn choice_comments(usable: &[(&MarketWarehouse, &MarketCampaign)]) -> Vec<String> {
    let describe = |(_, campaign): &(&MarketWarehouse, &MarketCampaign)| {
        let kind = campaign
            .placement_type
            .as_deref()
            .unwrap_or("kind not told");
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
                "Campaign {} was picked, the first that is open; the others share its stock, and \
                 the seller's program may feed it under any of them: {}.",
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
            "Express delivery is possible from: {}.",
            join_ids(express)
        ));
    }
    lines
}

/// A cabinet with groups: a list for each group, and one for each warehouse in none.
fn by_group(warehouses: &[MarketWarehouse]) -> Vec<StockList<'_>> {
    let mut groups: BTreeMap<u64, Vec<&MarketWarehouse>> = BTreeMap::new();
    for warehouse in warehouses {
        if let Some(group) = warehouse.group() {
            groups.entry(group).or_default().push(warehouse);
        }
    }
    let group_lists = groups.into_iter().map(|(id, members)| {
        let name = members
            .iter()
            .find_map(|w| w.group_info.as_ref()?.name.as_deref())
            .unwrap_or_default();
        let text = format!(
            "Group {} of warehouses: one stock, so one shop. The Market is told through one \
             campaign of the group, the others follow by themselves.",
            id_with_name(id, name)
        );
        let method = PlannedMethod::Campaign;
        StockList {
            comments: vec![text],
            name,
            warehouses: members,
            method,
        }
    });
    let ungrouped = warehouses.iter().filter(|w| w.group_info.is_none()).map(|warehouse| {
        let text = format!(
            "Warehouse {} is in no group, but others of this cabinet are: such cabinets are told \
             by campaign.",
            id_with_name(warehouse.id, warehouse.name())
        );
        let method = PlannedMethod::Campaign;
        StockList { comments: vec![text], name: warehouse.name(), warehouses: vec![warehouse], method }
    });
    group_lists.chain(ungrouped).collect()
}

/// A cabinet without groups: a list for each warehouse as the methods by business number it.
fn by_partner_warehouse<'a>(
    business: u64,
    account: &'a AccountProbe,
    warehouses: &'a [MarketWarehouse],
) -> Vec<StockList<'a>> {
    let mut matched: BTreeMap<u64, Vec<&MarketWarehouse>> = BTreeMap::new();
    let mut unmatched = Vec::new();
    for warehouse in warehouses {
        match partner_id(warehouse, warehouses, account.partner()) {
            Some(partner) => matched.entry(partner).or_default().push(warehouse),
            None => unmatched.push(warehouse),
        }
    }
    let matched_lists = matched.into_iter().map(|(partner, members)| {
        let names = members
            .iter()
            .map(|w| id_with_name(w.id, w.name()))
            .collect::<Vec<_>>()
            .join(", ");
        let text = format!(
            "Warehouse {names}: the cabinet has no groups of warehouses, and such a one is told \
             by business. There it has the number {partner}."
        );
        let name = members.first().map_or("", |w| w.name());
        let method = PlannedMethod::Business {
            business,
            partner_warehouses: vec![partner],
        };
        StockList {
            comments: vec![text],
            name,
            warehouses: members,
            method,
        }
    });
    let unmatched_lists = unmatched.into_iter().map(|warehouse| StockList {
        comments: unmatched_comments(warehouse, account),
        name: warehouse.name(),
        warehouses: vec![warehouse],
        method: PlannedMethod::Business {
            business,
            partner_warehouses: Vec::new(),
        },
    });
    matched_lists.chain(unmatched_lists).collect()
}

/// Its number in the methods by business: its own, or that of the only one of its name.
///
/// No description says how the two numberings meet, so nothing less than that is believed.
fn partner_id(
    warehouse: &MarketWarehouse,
    all: &[MarketWarehouse],
    partner: &[MarketPartnerWarehouse],
) -> Option<u64> {
    if partner.iter().any(|other| other.id == warehouse.id) {
        return Some(warehouse.id);
    }
    if let ([_], [only]) = (all, partner) {
        return Some(only.id);
    }
    let name = one_line(warehouse.name()).to_lowercase();
    let is_namesake = |other: &&MarketPartnerWarehouse| {
        one_line(other.name.as_deref().unwrap_or_default()).to_lowercase() == name
    };
    let mut namesakes = partner.iter().filter(is_namesake);
    let first = namesakes.next().filter(|_| !name.is_empty())?;
    namesakes.next().is_none().then_some(first.id)
}

fn unmatched_comments(warehouse: &MarketWarehouse, account: &AccountProbe) -> Vec<String> {
    let known = match &account.partner {
        Some(Err(error)) => format!("could not be asked: {error}"),
        Some(Ok(partner)) => {
            let each = partner
                .iter()
                .map(|p| id_with_name(p.id, p.name.as_deref().unwrap_or_default()));
            format!("are: {}", each.collect::<Vec<_>>().join(", "))
        }
        None => "were not asked".to_owned(),
    };
    let name = id_with_name(warehouse.id, warehouse.name());
    vec![
        format!(
            "Warehouse {name}: the cabinet has no groups of warehouses, and such a one is told by \
             business."
        ),
        one_line(&format!(
            "Which number it has there cannot be told; the numbers {known}. Put it into \
             partner_warehouses and then take migrate = \"off\" away."
        )),
    ]
}

// === As text ===

impl ShopPlan {
    /// The tables, without the notes.
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
        writeln!(f, "[[shops]]")?;
        writeln!(f, "name = \"{name}\"")?;
        writeln!(f, "warehouses = {:?}", self.warehouses)?;
        writeln!(
            f,
            "# What stands before /stocks in the address that the cabinet has for us."
        )?;
        writeln!(f, "base_path = \"/{name}\"")?;
        writeln!(f, "campaign = {}", self.campaign)?;
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
        writeln!(
            f,
            "api_key_file = {}",
            toml::Value::from(self.api_key_file.as_str())
        )
    }
}
