//! Which shops a cabinet comes to: decided from what the Market listed, without asking it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::name::Names;
use crate::cli::survey::{Cabinet, list, named, one_line};
use crate::partner::cabinet::{Campaign, PartnerWarehouse, Warehouse};

/// What was decided.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) parts: Vec<Part>,
}

/// A piece of the configuration, or of an explanation why there is none.
#[derive(Debug)]
pub(super) enum Part {
    Note(Vec<String>),
    Shop(Table),
}

/// One `[[shops]]` table.
#[derive(Debug)]
pub(super) struct Table {
    /// Why it is as it is.
    comments: Vec<String>,
    name: String,
    pub(super) warehouses: Vec<u64>,
    pub(super) campaign: u64,
    pub(super) feed_campaigns: Vec<u64>,
    pub(super) method: Method,
    api_key_file: String,
}

#[derive(Debug, Eq, PartialEq)]
pub(super) enum Method {
    Campaign,
    /// `partner_warehouses` are empty if nobody could tell them.
    Business {
        business: u64,
        partner_warehouses: Vec<u64>,
    },
}

/// Warehouses that share one stock.
struct StockList<'a> {
    why: Vec<String>,
    name: &'a str,
    warehouses: Vec<&'a Warehouse>,
    method: Method,
}

/// Plans the shops of every cabinet; `api_key_file` goes into each table.
pub(super) fn plan(
    campaigns: &[Campaign],
    cabinets: &BTreeMap<u64, Cabinet>,
    api_key_file: &str,
) -> Plan {
    let mut planner = Planner {
        campaigns: campaigns
            .iter()
            .map(|campaign| (campaign.id, campaign))
            .collect(),
        taken: BTreeMap::new(),
        names: Names::default(),
        api_key_file,
        plan: Plan::default(),
    };
    for (business, cabinet) in cabinets {
        planner.cabinet(*business, cabinet);
    }
    planner.without_warehouse(cabinets);
    planner.plan
}

struct Planner<'a> {
    campaigns: BTreeMap<u64, &'a Campaign>,
    /// Campaigns that stand in a table, and its name: none may stand in two.
    taken: BTreeMap<u64, String>,
    names: Names,
    api_key_file: &'a str,
    plan: Plan,
}

impl<'p> Planner<'p> {
    fn cabinet(&mut self, business: u64, cabinet: &Cabinet) {
        let name = self.campaigns.values().find_map(|campaign| {
            let of = campaign
                .business
                .as_ref()
                .filter(|of| of.id == Some(business))?;
            of.name.as_deref()
        });
        let cabinet_name = named(business, name.unwrap_or_default());
        let warehouses = match &cabinet.warehouses {
            Ok(list) => list,
            Err(error) => {
                let text = format!("Cabinet {cabinet_name}: no list of warehouses. {error}");
                self.plan.parts.push(Part::Note(vec![one_line(&text)]));
                return;
            }
        };
        let groups: BTreeSet<u64> = warehouses.iter().filter_map(Warehouse::group).collect();
        self.plan.parts.push(Part::Note(vec![format!(
            "Cabinet {cabinet_name}. Warehouses: {}, groups of warehouses: {}.",
            warehouses.len(),
            groups.len()
        )]));
        let lists = if groups.is_empty() {
            by_partner_warehouse(business, cabinet, warehouses)
        } else {
            by_group(warehouses)
        };
        for list in lists {
            self.shop(list);
        }
    }

    fn shop(&mut self, stock: StockList<'_>) {
        let mut comments = stock.why;
        let switched_off = stock.warehouses.iter().filter(|w| w.is_switched_off());
        comments.extend(switched_off.map(|warehouse| {
            format!(
                "Warehouse {} is switched off in the cabinet.",
                named(warehouse.id, warehouse.name())
            )
        }));
        let (mut usable, skipped) = self.candidates(&stock.warehouses);
        comments.extend(skipped);
        // Not one that may be gone tomorrow if there is another.
        usable.sort_by_key(|(warehouse, campaign)| {
            (
                warehouse.is_switched_off(),
                warehouse.express == Some(true),
                campaign.id,
            )
        });
        usable.dedup_by_key(|(_, campaign)| campaign.id);
        let Some(((_, picked), others)) = usable.split_first() else {
            comments.push("So there is no table for it.".to_owned());
            self.plan.parts.push(Part::Note(comments));
            return;
        };
        comments.extend(about_choice(&usable));
        let name = self.names.derive(stock.name, picked.name(), picked.id);
        self.taken.extend(
            usable
                .iter()
                .map(|(_, campaign)| (campaign.id, name.clone())),
        );
        let mut warehouses: Vec<u64> = stock.warehouses.iter().map(|w| w.id).collect();
        warehouses.sort_unstable();
        warehouses.dedup();
        self.plan.parts.push(Part::Shop(Table {
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
        warehouses: &[&'w Warehouse],
    ) -> (Vec<(&'w Warehouse, &'p Campaign)>, Vec<String>) {
        let (mut usable, mut skipped) = (Vec::new(), Vec::new());
        for warehouse in warehouses {
            let Some(id) = warehouse.campaign_id else {
                let name = named(warehouse.id, warehouse.name());
                skipped.push(format!("Warehouse {name} is of no campaign."));
                continue;
            };
            let obstacle = match (self.campaigns.get(&id), self.taken.get(&id)) {
                (None, _) => Some("this key does not see it".to_owned()),
                (Some(_), Some(table)) => Some(format!(
                    "it stands in the table {table} already, and by a campaign the Market is \
                     told of one stock only"
                )),
                (Some(campaign), None) => campaign.obstacle(),
            };
            match (obstacle, self.campaigns.get(&id)) {
                (None, Some(campaign)) => usable.push((*warehouse, *campaign)),
                (obstacle, campaign) => skipped.push(format!(
                    "Campaign {} is skipped: {}.",
                    named(id, campaign.map_or("", |campaign| campaign.name())),
                    obstacle.unwrap_or_default()
                )),
            }
        }
        (usable, skipped)
    }

    /// Campaigns that no warehouse names: most often those whose goods the Market keeps.
    fn without_warehouse(&mut self, cabinets: &BTreeMap<u64, Cabinet>) {
        let is_listed = |campaign: &Campaign| {
            let cabinet = campaign
                .business_id()
                .and_then(|business| cabinets.get(&business));
            cabinet.is_some_and(|cabinet| {
                // Without a list nothing can be said.
                cabinet.warehouses.is_err()
                    || cabinet
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
                let reason = campaign.obstacle();
                let reason = reason.unwrap_or_else(|| match campaign.business_id() {
                    Some(_) => "it has no warehouse".to_owned(),
                    None => "the Market does not say of which cabinet it is".to_owned(),
                });
                let name = named(campaign.id, campaign.name());
                format!("Campaign {name} is skipped: {reason}.")
            })
            .collect();
        if !notes.is_empty() {
            self.plan.parts.push(Part::Note(notes));
        }
    }
}

/// Why this campaign of several, and what is special about them.
fn about_choice(usable: &[(&Warehouse, &Campaign)]) -> Vec<String> {
    let describe = |(_, campaign): &(&Warehouse, &Campaign)| {
        let kind = campaign
            .placement_type
            .as_deref()
            .unwrap_or("kind not told");
        format!(
            "{} ({})",
            named(campaign.id, campaign.name()),
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
            list(express)
        ));
    }
    lines
}

/// A cabinet with groups: a list for each group, and one for each warehouse in none.
fn by_group(warehouses: &[Warehouse]) -> Vec<StockList<'_>> {
    let mut groups: BTreeMap<u64, Vec<&Warehouse>> = BTreeMap::new();
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
            named(id, name)
        );
        let method = Method::Campaign;
        StockList {
            why: vec![text],
            name,
            warehouses: members,
            method,
        }
    });
    let lone = warehouses.iter().filter(|w| w.group_info.is_none()).map(|warehouse| {
        let text = format!(
            "Warehouse {} is in no group, but others of this cabinet are: such cabinets are told \
             by campaign.",
            named(warehouse.id, warehouse.name())
        );
        let method = Method::Campaign;
        StockList { why: vec![text], name: warehouse.name(), warehouses: vec![warehouse], method }
    });
    group_lists.chain(lone).collect()
}

/// A cabinet without groups: a list for each warehouse as the methods by business number it.
fn by_partner_warehouse<'a>(
    business: u64,
    cabinet: &'a Cabinet,
    warehouses: &'a [Warehouse],
) -> Vec<StockList<'a>> {
    let mut matched: BTreeMap<u64, Vec<&Warehouse>> = BTreeMap::new();
    let mut lost = Vec::new();
    for warehouse in warehouses {
        match partner_of(warehouse, warehouses, cabinet.partner()) {
            Some(partner) => matched.entry(partner).or_default().push(warehouse),
            None => lost.push(warehouse),
        }
    }
    let found = matched.into_iter().map(|(partner, members)| {
        let names = members
            .iter()
            .map(|w| named(w.id, w.name()))
            .collect::<Vec<_>>()
            .join(", ");
        let text = format!(
            "Warehouse {names}: the cabinet has no groups of warehouses, and such a one is told \
             by business. There it has the number {partner}."
        );
        let name = members.first().map_or("", |w| w.name());
        let method = Method::Business {
            business,
            partner_warehouses: vec![partner],
        };
        StockList {
            why: vec![text],
            name,
            warehouses: members,
            method,
        }
    });
    let lost = lost.into_iter().map(|warehouse| StockList {
        why: why_lost(warehouse, cabinet),
        name: warehouse.name(),
        warehouses: vec![warehouse],
        method: Method::Business {
            business,
            partner_warehouses: Vec::new(),
        },
    });
    found.chain(lost).collect()
}

/// Its number in the methods by business: its own, or that of the only one of its name.
///
/// No description says how the two numberings meet, so nothing less than that is believed.
fn partner_of(
    warehouse: &Warehouse,
    all: &[Warehouse],
    partner: &[PartnerWarehouse],
) -> Option<u64> {
    if partner.iter().any(|other| other.id == warehouse.id) {
        return Some(warehouse.id);
    }
    if let ([_], [only]) = (all, partner) {
        return Some(only.id);
    }
    let name = one_line(warehouse.name()).to_lowercase();
    let is_namesake = |other: &&PartnerWarehouse| {
        one_line(other.name.as_deref().unwrap_or_default()).to_lowercase() == name
    };
    let mut namesakes = partner.iter().filter(is_namesake);
    let first = namesakes.next().filter(|_| !name.is_empty())?;
    namesakes.next().is_none().then_some(first.id)
}

fn why_lost(warehouse: &Warehouse, cabinet: &Cabinet) -> Vec<String> {
    let known = match &cabinet.partner {
        Some(Err(error)) => format!("could not be asked: {error}"),
        Some(Ok(partner)) => {
            let each = partner
                .iter()
                .map(|p| named(p.id, p.name.as_deref().unwrap_or_default()));
            format!("are: {}", each.collect::<Vec<_>>().join(", "))
        }
        None => "were not asked".to_owned(),
    };
    let name = named(warehouse.id, warehouse.name());
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

impl Plan {
    /// The tables, without the notes.
    pub(super) fn shops(&self) -> impl Iterator<Item = &Table> {
        self.parts.iter().filter_map(|part| match part {
            Part::Shop(table) => Some(table),
            Part::Note(_) => None,
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Note(lines) => {
                lines.iter().try_for_each(|line| writeln!(f, "# {line}"))?;
                writeln!(f)
            }
            Part::Shop(table) => writeln!(f, "{table}"),
        })
    }
}

impl fmt::Display for Table {
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
            Method::Campaign => writeln!(f, "method = \"campaign\"")?,
            Method::Business {
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
