//! Isolation of the SKUs that make the Market reject a batch without naming them. Pure.
//!
//! A rejected batch is split in halves until the rejected SKUs are alone. A SKU that is rejected
//! alone is a suspect. Its rejection proves nothing by itself: perhaps the Market began to reject
//! everything at that moment. So a suspect is tried a second time after the Market has accepted
//! another request that was sent after the first rejection, and only the second rejection counts.
//! If suspect after suspect is rejected and nothing is accepted in between, the rejection is
//! systemic: no SKU is to blame, and the suspects wait until something is accepted.

use std::collections::{HashMap, VecDeque};

use crate::migrator::batch::Age;
use crate::stock::{Count, Level, Sku};

/// Number of SKUs rejected alone, with nothing accepted in between, that shows that the Market
/// rejects every batch.
pub(super) const SUSPECTS_UNTIL_SYSTEMIC: usize = 8;

/// Number of rejections in a row after which requests with one SKU are sent: they show with few
/// requests whether the Market rejects every batch.
const REJECTIONS_UNTIL_PROBE: usize = 8;

/// Weight of a group of zeros against a group of other SKUs of the same size.
const WEIGHT_OF_ZEROS: usize = 4;

/// Which group is sent next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// The part that was split last, where SKUs are limited: finds a rejected SKU soonest.
    DepthFirst,
    /// The largest, where requests are limited: most SKUs are accepted per request.
    LargestFirst,
}

/// Two halves of a batch that was rejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Pair(u64);

/// SKUs that go out together: a part of a rejected batch.
#[derive(Debug)]
struct Group {
    skus: Vec<(Sku, Age)>,
    // Set while the whole of each half is to be sent: if one is accepted, the other is not.
    pair: Option<Pair>,
    // Every count was zero.
    is_zeros: bool,
}

/// Origin of a batch: a group, whose SKUs do not return to the backlog.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) pair: Option<Pair>,
    pub(super) is_zeros: bool,
}

/// A SKU rejected alone, whose rejection is not yet proven to be its own fault.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) sku: Sku,
    pub(super) level: Level,
    pub(super) reason: String,
    /// The first request that was sent after the rejection.
    pub(super) after: u64,
    /// The Market named it.
    pub(super) is_named: bool,
    /// It is in quarantine already, so its rejection says nothing new about the Market.
    pub(super) is_aside: bool,
}

/// An earlier rejection of one SKU alone, or by name.
#[derive(Debug)]
struct Evidence {
    count: Count,
    // The first request that was sent after it.
    after: u64,
    // Such a request was accepted.
    is_confirmed: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Isolation {
    order: Order,
    groups: VecDeque<Group>,
    suspects: Vec<Suspect>,
    evidence: HashMap<Sku, Evidence>,
    pairs: u64,
    rejections: usize,
    is_systemic: bool,
}

impl Isolation {
    pub(super) fn new(order: Order) -> Self {
        Self {
            order,
            groups: VecDeque::new(),
            suspects: Vec::new(),
            evidence: HashMap::new(),
            pairs: 0,
            rejections: 0,
            is_systemic: false,
        }
    }

    // === Groups ===

    /// The group that goes next: its place, and how many SKUs it has.
    pub(super) fn next(&self) -> Option<(usize, usize)> {
        let weight =
            |group: &Group| group.skus.len() * if group.is_zeros { WEIGHT_OF_ZEROS } else { 1 };
        let place = match self.order {
            Order::DepthFirst => (!self.groups.is_empty()).then_some(0),
            Order::LargestFirst => {
                // The first of several: the one that waits longest.
                let places = (0..self.groups.len()).rev();
                places.max_by_key(|place| weight(&self.groups[*place]))
            }
        }?;
        Some((place, self.groups[place].skus.len()))
    }

    /// Takes up to `most` SKUs of the group at this place.
    pub(super) fn take(&mut self, place: usize, most: usize) -> Option<(Vec<(Sku, Age)>, Part)> {
        let mut group = self.groups.remove(place)?;
        let rest = group.skus.split_off(most.min(group.skus.len()));
        if !rest.is_empty() {
            self.unpair(group.pair);
            group.pair = None;
            let rest = Group {
                skus: rest,
                pair: None,
                is_zeros: group.is_zeros,
            };
            self.groups.push_front(rest);
        }
        Some((
            group.skus,
            Part {
                pair: group.pair,
                is_zeros: group.is_zeros,
            },
        ))
    }

    /// Puts back what did not go out.
    pub(super) fn put_back(&mut self, skus: Vec<(Sku, Age)>, part: Part) {
        let Part { pair, is_zeros } = part;
        self.groups.push_front(Group {
            skus,
            pair,
            is_zeros,
        });
    }

    /// SKUs to be sent one by one, after the other groups.
    pub(super) fn push_single(&mut self, sku: Sku, age: Age, count: Count) {
        let is_zeros = count == Count::ZERO;
        self.groups.push_back(Group {
            skus: vec![(sku, age)],
            pair: None,
            is_zeros,
        });
    }

    /// The SKUs the Market named go out one by one, the others together and before them.
    pub(super) fn set_apart(
        &mut self,
        named: Vec<(Sku, Age)>,
        others: Vec<(Sku, Age)>,
        is_zeros: bool,
    ) {
        for one in named.into_iter().rev() {
            self.groups.push_front(Group {
                skus: vec![one],
                pair: None,
                is_zeros,
            });
        }
        if !others.is_empty() {
            self.groups.push_front(Group {
                skus: others,
                pair: None,
                is_zeros,
            });
        }
    }

    /// Splits a rejected batch in halves.
    pub(super) fn split(&mut self, skus: Vec<(Sku, Age)>, is_zeros: bool) {
        self.pairs += 1;
        let pair = Some(Pair(self.pairs));
        self.push_halves(skus, pair, is_zeros);
    }

    /// Splits a batch that was too large: the halves say nothing of each other.
    pub(super) fn split_large(&mut self, skus: Vec<(Sku, Age)>, is_zeros: bool) {
        self.push_halves(skus, None, is_zeros);
    }

    fn push_halves(&mut self, mut first: Vec<(Sku, Age)>, pair: Option<Pair>, is_zeros: bool) {
        let second = first.split_off(first.len() / 2);
        for skus in [second, first] {
            if !skus.is_empty() {
                self.groups.push_front(Group {
                    skus,
                    pair,
                    is_zeros,
                });
            }
        }
    }

    fn unpair(&mut self, pair: Option<Pair>) {
        if pair.is_some() {
            self.groups
                .iter_mut()
                .filter(|g| g.pair == pair)
                .for_each(|group| group.pair = None);
        }
    }

    /// SKUs in groups and suspects.
    pub(super) fn waiting(&self) -> usize {
        let grouped: usize = self.groups.iter().map(|group| group.skus.len()).sum();
        grouped + self.suspects.len()
    }

    /// No group is waiting.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Whether the next request should have one SKU: it is enough to show whether the Market
    /// rejects everything.
    pub(super) fn wants_probe(&self) -> bool {
        self.is_systemic || self.rejections >= REJECTIONS_UNTIL_PROBE
    }

    /// The Market has rejected every batch until now.
    pub(super) fn is_systemic(&self) -> bool {
        self.is_systemic
    }

    // === Outcomes ===

    /// A request was accepted. Returns the suspects that are proven to be rejected by themselves.
    ///
    /// Proof is only a request that was sent after the rejection. A suspect without further
    /// evidence is tried a second time.
    pub(super) fn accepted(
        &mut self,
        number: u64,
        part: Option<Part>,
        skus: &[Sku],
    ) -> Vec<Suspect> {
        self.rejections = 0;
        self.is_systemic = false;
        for sku in skus {
            self.evidence.remove(sku);
        }
        if let Some(pair) = part.and_then(|part| part.pair)
            && let Some(place) = self
                .groups
                .iter()
                .position(|group| group.pair == Some(pair))
            && let Some(group) = self.groups.remove(place)
        {
            // The half that was accepted is not at fault, so this one is.
            if group.skus.len() > 1 {
                self.split(group.skus, group.is_zeros);
            } else {
                self.groups.insert(
                    place,
                    Group {
                        pair: None,
                        ..group
                    },
                );
            }
        }
        for evidence in self.evidence.values_mut() {
            evidence.is_confirmed |= number >= evidence.after;
        }
        let (settled, open): (Vec<_>, Vec<_>) = std::mem::take(&mut self.suspects)
            .into_iter()
            .partition(|s| number >= s.after);
        self.suspects = open;
        let (proven, unproven): (Vec<_>, Vec<_>) = settled.into_iter().partition(|s| s.is_named);
        for Suspect {
            sku, level, after, ..
        } in unproven
        {
            let evidence = Evidence {
                count: level.count,
                after,
                is_confirmed: true,
            };
            self.evidence.insert(sku.clone(), evidence);
            self.push_single(sku, level.updated_at.as_micros(), level.count);
        }
        proven
    }

    /// A request was rejected.
    pub(super) fn rejected(&mut self, part: Option<Part>) {
        self.rejections += 1;
        self.unpair(part.and_then(|part| part.pair));
    }

    /// The Market named this SKU, or rejected it alone; `after` is the next request.
    pub(super) fn note_evidence(&mut self, sku: &Sku, count: Count, after: u64) {
        let evidence = Evidence {
            count,
            after,
            is_confirmed: false,
        };
        self.evidence.insert(sku.clone(), evidence);
    }

    /// The same, of a rejection since which something was accepted.
    pub(super) fn note_confirmed(&mut self, sku: &Sku, count: Count) {
        let evidence = Evidence {
            count,
            after: 0,
            is_confirmed: true,
        };
        self.evidence.insert(sku.clone(), evidence);
    }

    /// Whether this SKU was rejected before with this count, and something was accepted since.
    pub(super) fn is_proven(&self, sku: &Sku, count: Count) -> bool {
        let evidence = self.evidence.get(sku);
        evidence.is_some_and(|evidence| evidence.count == count && evidence.is_confirmed)
    }

    /// A SKU was set aside: the evidence is in quarantine from now on.
    pub(super) fn forget(&mut self, sku: &Sku) {
        self.evidence.remove(sku);
    }

    /// Adds a suspect. Returns how many rejections say that the Market rejects everything.
    pub(super) fn suspect(&mut self, suspect: Suspect) -> usize {
        self.suspects.push(suspect);
        self.suspects
            .iter()
            .filter(|suspect| !suspect.is_aside)
            .count()
    }

    /// Hands out all suspects: nothing is left that could be accepted.
    pub(super) fn settle(&mut self) -> Vec<Suspect> {
        std::mem::take(&mut self.suspects)
    }

    /// The oldest suspect goes out again, because nothing else is left that could show whether
    /// the Market still rejects everything.
    pub(super) fn probe_suspect(&mut self) {
        if !self.suspects.is_empty() {
            let Suspect { sku, level, .. } = self.suspects.remove(0);
            self.push_single(sku, level.updated_at.as_micros(), level.count);
        }
    }

    /// The Market rejects everything: hands out the SKUs of groups. The suspects wait until
    /// something is accepted.
    pub(super) fn give_up(&mut self) -> Vec<Sku> {
        self.is_systemic = true;
        let groups = std::mem::take(&mut self.groups);
        groups
            .into_iter()
            .flat_map(|group| group.skus)
            .map(|(sku, _)| sku)
            .collect()
    }
}
