//! Digest of the rules that turn the statements of sources into stock.
//!
//! The digest is stored on disk. If it differs at the next start or reload, all stock of the shop is
//! evaluated again under the guard. So it is made of explicit bytes, and not of names in the code.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use stock_import::stock_rules;
use stock_import::stock_rules::{ShopRules, SkuOverride, SourceRules};

use super::source_policy::{AbsentPolicy, SourcePolicy, SourceWarehouses};

/// Version of the byte layout. A change makes every shop evaluate its stock again once.
const VERSION: u64 = 1;

/// Length of the stored digest in bytes.
const DIGEST_BYTES: usize = 16;

/// Returns the digest of a shop's rules and of those of its sources, in the order of the
/// configuration: 32 hexadecimal digits.
pub(super) fn rules_digest<'t>(
    shop: &ShopRules,
    sources: impl Iterator<Item = &'t SourcePolicy>,
) -> String {
    let mut bytes = DigestInput(Sha256::new());
    bytes.number(VERSION);
    bytes.shop(shop);
    for source in sources {
        bytes.source(source);
    }
    let digest = bytes.0.finalize();
    digest
        .iter()
        .take(DIGEST_BYTES)
        .fold(String::new(), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

/// Hash over an unambiguous encoding: texts and lists begin with their length.
struct DigestInput(Sha256);

impl DigestInput {
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

    fn optional(&mut self, number: Option<u32>) {
        self.number(number.map_or(0, |number| 1 + u64::from(number)));
    }

    fn shop(&mut self, rules: &ShopRules) {
        self.text(rules.combine.name());
        self.adjustments(rules.adjustments);
        let mut overrides: Vec<_> = rules.overrides.iter().collect();
        overrides.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        self.length(overrides.len());
        for (
            sku,
            SkuOverride {
                count,
                buffer,
                zero_below,
                cap,
            },
        ) in overrides
        {
            self.text(sku.as_str());
            self.optional(count.map(|count| count.get()));
            self.optional(*buffer);
            self.optional(*zero_below);
            self.optional(*cap);
        }
    }

    fn adjustments(
        &mut self,
        stock_rules::Adjustments {
            buffer,
            zero_below,
            cap,
        }: stock_rules::Adjustments,
    ) {
        self.number(u64::from(buffer));
        self.number(u64::from(zero_below));
        self.optional(cap);
    }

    fn source(&mut self, source: &SourcePolicy) {
        self.text(&source.name);
        self.number(match source.absent {
            AbsentPolicy::Keep => 0,
            AbsentPolicy::Zero => 1,
        });
        match &source.warehouses {
            SourceWarehouses::Unset => self.number(0),
            SourceWarehouses::All => self.number(1),
            SourceWarehouses::Named(names) => {
                self.number(2);
                self.length(names.len());
                names.iter().for_each(|name| self.text(name));
            }
        }
        let SourceRules {
            subtracts_reserve,
            combine_warehouses,
            pack_size,
            adjustments,
        } = source.rules;
        self.number(u64::from(subtracts_reserve));
        self.text(combine_warehouses.name());
        self.number(u64::from(pack_size));
        self.adjustments(adjustments);
        self.length(source.mapping.len());
        for (source_sku, sku, pack_size) in &source.mapping {
            self.text(source_sku);
            self.text(sku);
            self.number(u64::from(*pack_size));
        }
    }
}

#[cfg(test)]
mod tests {
    use stock::{Count, Sku};
    use stock_import::stock_rules::{Adjustments, Combine};

    use super::*;
    use crate::sources::pipeline::tests::test_policy;

    fn digest_of(shop: &ShopRules, sources: &[SourcePolicy]) -> String {
        rules_digest(shop, sources.iter())
    }

    /// A release that computes another digest of the same rules makes every shop evaluate its stock
    /// again, and the guard may hold the result.
    #[test]
    fn digest_is_stable_across_releases() {
        let source = SourcePolicy {
            warehouses: SourceWarehouses::Named(vec!["Юг".to_owned()]),
            mapping: vec![("box".to_owned(), "A-1".to_owned(), 10)],
            ..test_policy("erp")
        };
        let overrides = [("A-1", 5), ("B-2", 0)].map(|(sku, count)| {
            let count = Some(Count::try_from(count).unwrap());
            (
                Sku::parse(sku).unwrap(),
                SkuOverride {
                    count,
                    ..SkuOverride::default()
                },
            )
        });
        let shop = ShopRules {
            combine: Combine::Sum,
            adjustments: Adjustments {
                buffer: 2,
                zero_below: 3,
                cap: Some(100),
            },
            overrides: overrides.into_iter().collect(),
        };
        assert_eq!(
            digest_of(&shop, &[source]),
            "b76cbefc19516d74384e33c25444c55d"
        );
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table of cases")]
    fn every_rule_changes_the_digest() {
        let shop = ShopRules::default();
        let source = test_policy("erp");
        let rules = source.rules;
        let with_rules = |rules| SourcePolicy {
            rules,
            ..test_policy("erp")
        };
        let with_adjustments = |adjustments| ShopRules {
            adjustments,
            ..ShopRules::default()
        };
        let mapped = |source_sku: &str, sku: &str, units: u32| SourcePolicy {
            mapping: vec![(source_sku.to_owned(), sku.to_owned(), units)],
            ..test_policy("erp")
        };
        let named = |name: &str| SourcePolicy {
            warehouses: SourceWarehouses::Named(vec![name.to_owned()]),
            ..test_policy("erp")
        };
        let overridden = |sku_override: SkuOverride| ShopRules {
            overrides: [(Sku::parse("A-1").unwrap(), sku_override)]
                .into_iter()
                .collect(),
            ..ShopRules::default()
        };
        let none = SkuOverride::default();
        let count = Some(Count::ZERO);
        let all = [
            digest_of(&shop, &[]),
            digest_of(&shop, &[test_policy("erp")]),
            digest_of(&shop, &[test_policy("crm")]),
            digest_of(&shop, &[test_policy("erp"), test_policy("crm")]),
            digest_of(&shop, &[test_policy("crm"), test_policy("erp")]),
            digest_of(
                &ShopRules {
                    combine: Combine::First,
                    ..ShopRules::default()
                },
                &[],
            ),
            digest_of(
                &with_adjustments(Adjustments {
                    buffer: 1,
                    ..Adjustments::default()
                }),
                &[],
            ),
            digest_of(
                &with_adjustments(Adjustments {
                    zero_below: 1,
                    ..Adjustments::default()
                }),
                &[],
            ),
            digest_of(
                &with_adjustments(Adjustments {
                    cap: Some(0),
                    ..Adjustments::default()
                }),
                &[],
            ),
            digest_of(
                &with_adjustments(Adjustments {
                    cap: Some(1),
                    ..Adjustments::default()
                }),
                &[],
            ),
            digest_of(
                &shop,
                &[SourcePolicy {
                    absent: AbsentPolicy::Zero,
                    ..test_policy("erp")
                }],
            ),
            digest_of(
                &shop,
                &[SourcePolicy {
                    warehouses: SourceWarehouses::All,
                    ..test_policy("erp")
                }],
            ),
            digest_of(
                &shop,
                &[SourcePolicy {
                    warehouses: SourceWarehouses::Named(Vec::new()),
                    ..test_policy("erp")
                }],
            ),
            digest_of(
                &shop,
                &[with_rules(SourceRules {
                    subtracts_reserve: false,
                    ..rules
                })],
            ),
            digest_of(
                &shop,
                &[with_rules(SourceRules {
                    combine_warehouses: Combine::Minimum,
                    ..rules
                })],
            ),
            digest_of(
                &shop,
                &[with_rules(SourceRules {
                    pack_size: 2,
                    ..rules
                })],
            ),
            digest_of(
                &shop,
                &[with_rules(SourceRules {
                    adjustments: Adjustments {
                        buffer: 1,
                        ..rules.adjustments
                    },
                    ..rules
                })],
            ),
            digest_of(&shop, &[mapped("ab", "c", 1)]),
            digest_of(&shop, &[mapped("a", "bc", 1)]),
            digest_of(&shop, &[mapped("a", "bc", 2)]),
            digest_of(&shop, &[named("x")]),
            digest_of(&shop, &[named("y")]),
            digest_of(&overridden(none), &[]),
            digest_of(&overridden(SkuOverride { count, ..none }), &[]),
            digest_of(
                &overridden(SkuOverride {
                    buffer: Some(0),
                    ..none
                }),
                &[],
            ),
            digest_of(
                &overridden(SkuOverride {
                    zero_below: Some(0),
                    ..none
                }),
                &[],
            ),
            digest_of(
                &overridden(SkuOverride {
                    cap: Some(0),
                    ..none
                }),
                &[],
            ),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len(), "{all:?}");
        assert!(all.iter().all(|digest| digest.len() == 2 * DIGEST_BYTES));
    }
}
