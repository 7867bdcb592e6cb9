//! Digest of the rules that make stock of what sources state.
//!
//! It is kept on disk: where it differs at the next start, all stock of the shop is calculated again
//! under the guard. So it is made of bytes that are written out here, and not of names in the code.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::super::rules::{Override, ShopRules, SourceRules};
use super::taking::{Absent, Taking, Warehouses};
use crate::sources::rules;

/// Layout of the bytes. A change of it makes every shop calculate its stock again once.
const VERSION: u64 = 1;

/// Bytes of the digest that are kept.
const LENGTH: usize = 16;

/// Returns the digest of a shop's rules and of those of its sources, in the order of the
/// configuration: 32 hexadecimal digits.
pub(super) fn digest<'t>(shop: &ShopRules, sources: impl Iterator<Item = &'t Taking>) -> String {
    let mut bytes = Bytes(Sha256::new());
    bytes.number(VERSION);
    bytes.shop(shop);
    for source in sources {
        bytes.source(source);
    }
    let digest = bytes.0.finalize();
    digest
        .iter()
        .take(LENGTH)
        .fold(String::new(), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

/// Bytes in which no two lists of values are alike: texts and lists begin with their length.
struct Bytes(Sha256);

impl Bytes {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn length(&mut self, length: usize) {
        self.number(u64::try_from(length).unwrap_or(u64::MAX));
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.update(text.as_bytes());
    }

    fn option(&mut self, number: Option<u32>) {
        self.number(number.map_or(0, |number| 1 + u64::from(number)));
    }

    fn shop(&mut self, rules: &ShopRules) {
        self.text(rules.combine.name());
        self.adjustments(rules.shape);
        let mut overrides: Vec<_> = rules.overrides.iter().collect();
        overrides.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        self.length(overrides.len());
        for (
            sku,
            Override {
                count,
                buffer,
                below,
                cap,
            },
        ) in overrides
        {
            self.text(sku.as_str());
            self.option(count.map(|count| count.get()));
            self.option(*buffer);
            self.option(*below);
            self.option(*cap);
        }
    }

    fn adjustments(&mut self, rules::Shape { buffer, below, cap }: rules::Shape) {
        self.number(u64::from(buffer));
        self.number(u64::from(below));
        self.option(cap);
    }

    fn source(&mut self, source: &Taking) {
        self.text(&source.name);
        self.number(match source.absent {
            Absent::Keep => 0,
            Absent::Zero => 1,
        });
        match &source.warehouses {
            Warehouses::Unsaid => self.number(0),
            Warehouses::All => self.number(1),
            Warehouses::Named(names) => {
                self.number(2);
                self.length(names.len());
                names.iter().for_each(|name| self.text(name));
            }
        }
        let SourceRules {
            subtracts_reserve,
            places,
            pack,
            shape,
        } = source.rules;
        self.number(u64::from(subtracts_reserve));
        self.text(places.name());
        self.number(u64::from(pack));
        self.adjustments(shape);
        self.length(source.mapping.len());
        for (word, sku, units) in &source.mapping {
            self.text(word);
            self.text(sku);
            self.number(u64::from(*units));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::intake::tests::taking;
    use crate::sources::rules::{Combine, Shape};
    use crate::stock::{Count, Sku};

    fn of(shop: &ShopRules, sources: &[Taking]) -> String {
        digest(shop, sources.iter())
    }

    /// A release that computes another digest of the same rules makes every shop calculate its stock
    /// again, which the guard may hold.
    #[test]
    fn digest_of_the_same_rules_never_changes() {
        let source = Taking {
            warehouses: Warehouses::Named(vec!["Юг".to_owned()]),
            mapping: vec![("box".to_owned(), "A-1".to_owned(), 10)],
            ..taking("erp")
        };
        let overrides = [("A-1", 5), ("B-2", 0)].map(|(sku, count)| {
            let count = Some(Count::try_from(count).unwrap());
            (
                Sku::parse(sku).unwrap(),
                Override {
                    count,
                    ..Override::default()
                },
            )
        });
        let shop = ShopRules {
            combine: Combine::Sum,
            shape: Shape {
                buffer: 2,
                below: 3,
                cap: Some(100),
            },
            overrides: overrides.into_iter().collect(),
        };
        assert_eq!(of(&shop, &[source]), "b76cbefc19516d74384e33c25444c55d");
    }

    #[test]
    fn every_rule_changes_the_digest() {
        let shop = ShopRules::default();
        let source = taking("erp");
        let rules = source.rules;
        let with = |rules| Taking {
            rules,
            ..taking("erp")
        };
        let shape = |shape| ShopRules {
            shape,
            ..ShopRules::default()
        };
        let mapped = |word: &str, sku: &str, units: u32| Taking {
            mapping: vec![(word.to_owned(), sku.to_owned(), units)],
            ..taking("erp")
        };
        let named = |name: &str| Taking {
            warehouses: Warehouses::Named(vec![name.to_owned()]),
            ..taking("erp")
        };
        let overridden = |of_sku: Override| ShopRules {
            overrides: [(Sku::parse("A-1").unwrap(), of_sku)].into_iter().collect(),
            ..ShopRules::default()
        };
        let none = Override::default();
        let count = Some(Count::ZERO);
        let all = [
            of(&shop, &[]),
            of(&shop, &[taking("erp")]),
            of(&shop, &[taking("crm")]),
            of(&shop, &[taking("erp"), taking("crm")]),
            of(&shop, &[taking("crm"), taking("erp")]),
            of(
                &ShopRules {
                    combine: Combine::First,
                    ..ShopRules::default()
                },
                &[],
            ),
            of(
                &shape(Shape {
                    buffer: 1,
                    ..Shape::default()
                }),
                &[],
            ),
            of(
                &shape(Shape {
                    below: 1,
                    ..Shape::default()
                }),
                &[],
            ),
            of(
                &shape(Shape {
                    cap: Some(0),
                    ..Shape::default()
                }),
                &[],
            ),
            of(
                &shape(Shape {
                    cap: Some(1),
                    ..Shape::default()
                }),
                &[],
            ),
            of(
                &shop,
                &[Taking {
                    absent: Absent::Zero,
                    ..taking("erp")
                }],
            ),
            of(
                &shop,
                &[Taking {
                    warehouses: Warehouses::All,
                    ..taking("erp")
                }],
            ),
            of(
                &shop,
                &[Taking {
                    warehouses: Warehouses::Named(Vec::new()),
                    ..taking("erp")
                }],
            ),
            of(
                &shop,
                &[with(SourceRules {
                    subtracts_reserve: false,
                    ..rules
                })],
            ),
            of(
                &shop,
                &[with(SourceRules {
                    places: Combine::Least,
                    ..rules
                })],
            ),
            of(&shop, &[with(SourceRules { pack: 2, ..rules })]),
            of(
                &shop,
                &[with(SourceRules {
                    shape: Shape {
                        buffer: 1,
                        ..rules.shape
                    },
                    ..rules
                })],
            ),
            of(&shop, &[mapped("ab", "c", 1)]),
            of(&shop, &[mapped("a", "bc", 1)]),
            of(&shop, &[mapped("a", "bc", 2)]),
            of(&shop, &[named("x")]),
            of(&shop, &[named("y")]),
            of(&overridden(none), &[]),
            of(&overridden(Override { count, ..none }), &[]),
            of(
                &overridden(Override {
                    buffer: Some(0),
                    ..none
                }),
                &[],
            ),
            of(
                &overridden(Override {
                    below: Some(0),
                    ..none
                }),
                &[],
            ),
            of(
                &overridden(Override {
                    cap: Some(0),
                    ..none
                }),
                &[],
            ),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len(), "{all:?}");
        assert!(all.iter().all(|digest| digest.len() == 2 * LENGTH));
    }
}
