//! Texts of the alarms in English.

use super::AlarmText;
use crate::telemetry::AlarmKind;

/// Returns the text of an alarm in English.
#[expect(clippy::too_many_lines, reason = "one entry for each alarm")]
pub(super) const fn alarm_text(kind: AlarmKind) -> AlarmText {
    match kind {
        AlarmKind::AbsenceNotApplied => AlarmText {
            title: "Missing SKUs keep their old stock",
            consequence: "SKUs that the last snapshot lacks keep their old stock instead of 0, so the Market may sell products that you do not have; the rows of the snapshot that could be read are applied.",
            remedy: "Correct the row that does not name its SKU, and deliver the snapshot again. The reason in the alarm names the row.",
        },
        AlarmKind::AuthFailures => AlarmText {
            title: "Many requests with a wrong secret",
            consequence: "A program with a wrong secret cannot deliver stock, and the Market gets no stock if its push token is wrong; requests with the correct secret are still accepted.",
            remedy: "Correct the program that sends an old push token, feed key or 1C login. If the requests are not yours, block their address in front of this service.",
        },
        AlarmKind::BatchRefused => AlarmText {
            title: "The Market rejects every batch",
            consequence: "New stock of this shop does not reach the Market through the new API; it is kept and sent later, and requests of the Market are still answered.",
            remedy: "Read the Market's reason in the alarm, and check the method, the warehouse id and the clock of this machine. Run stockbridge doctor.",
        },
        AlarmKind::CampaignPaused => AlarmText {
            title: "Sending to the Market is paused",
            consequence: "The Market rejects the API key or does not accept stock of this shop, so new stock waits; it is sent later, and requests of the Market are still answered.",
            remedy: "Replace the API key and reload the configuration, or check in the Market's cabinet that the shop is not disconnected. Run stockbridge doctor.",
        },
        AlarmKind::CloneGuard => AlarmText {
            title: "Store belongs to another installation",
            consequence: "No stock of any shop is sent to the Market; this installation still accepts stock and answers requests of the Market.",
            remedy: "If the other installation does not run any more, restart once with --adopt. If this is a copy for tests, give it a store of its own.",
        },
        AlarmKind::ClockJumped => AlarmText {
            title: "Clock or dates of stock are wrong",
            consequence: "The newest date decides which count is valid, so a wrong date can make the service keep an older count; accepting, sending and answering continue.",
            remedy: "Check the time service (NTP) of this machine, with replicas that of the database server, and of the program that feeds stock. The alarm clears 24 hours after the last report.",
        },
        AlarmKind::ColdShopAsked => AlarmText {
            title: "The Market asks for unknown stock",
            consequence: "The shop has no stock in this service, so the Market gets an error status and keeps the counts that it has; no count becomes 0.",
            remedy: "Deliver the complete stock of the shop by your program, by a source or with stockbridge import.",
        },
        AlarmKind::ConfigRejected => AlarmText {
            title: "New configuration is not applied",
            consequence: "The service works with the old configuration, so new secrets, lists and rules \
                are not used yet; accepting, sending and answering continue.",
            remedy: "Correct the fault that the alarm names, and reload. Run stockbridge check first.",
        },
        AlarmKind::DatabaseLostChanges => AlarmText {
            title: "The database had lost changes",
            consequence: "They were appended again from memory, so no stock is lost; what the Market acknowledged in that time is sent once more.",
            remedy: "Find out why the database went back, often a failover to a standby that was behind. Set synchronous_standby_names, so that it cannot happen again.",
        },
        AlarmKind::Drift => AlarmText {
            title: "Counts on the Market differ",
            consequence: "The Market shows other counts for some SKUs than were sent, so it may sell more or less than you have; sending and answering continue.",
            remedy: "Run stockbridge verify to list these SKUs, then stockbridge explain SKU for one of them. Look for a second program that sends stock to this shop.",
        },
        AlarmKind::NothingAcknowledged => AlarmText {
            title: "The Market accepts no stock",
            consequence: "For 15 minutes or more no new stock of this shop has reached the Market through the new API; it is kept and sent later, and requests of the Market are still answered.",
            remedy: "Run stockbridge doctor: it checks the connection to the Market, the API key and the shop.",
        },
        AlarmKind::NotifyFailed => AlarmText {
            title: "Notifications are not delivered",
            consequence: "This channel cannot send alarms, so a fault may go unnoticed; other channels and the stock are not affected.",
            remedy: "Read the reason in the alarm, correct the channel's settings, and run stockbridge notify --test.",
        },
        AlarmKind::Quarantine => AlarmText {
            title: "The Market rejects some SKUs",
            consequence: "The Market keeps its old counts of these SKUs; the stock of all other SKUs is sent.",
            remedy: "Correct these SKUs in your program or in the Market's catalogue: the Market states a reason for each. The service sends them again after 1 to 24 hours, and as soon as their count changes.",
        },
        AlarmKind::ReadbackFailed => AlarmText {
            title: "The Market's stock cannot be read back",
            consequence: "The service cannot check which counts the Market shows; sending and answering continue.",
            remedy: "Read the reason in the alarm and run stockbridge doctor: often the API key lacks a scope. The service tries again within an hour.",
        },
        AlarmKind::ReplicaBehind => AlarmText {
            title: "This replica does not follow the others",
            consequence: "It cannot read their changes from the database, so it answers the Market with status 503 and counts as not ready; the other replicas work.",
            remedy: "Check the database and the network between it and this replica. The replica follows again by itself.",
        },
        AlarmKind::ReplicasDiffer => AlarmText {
            title: "Replicas have different settings",
            consequence: "Stock and responses depend on the replica that reads the sources, sends or is asked; accepting, sending and answering continue.",
            remedy: "The alarm names the replicas and the parts that differ. Use the same configuration on all machines, and reload or restart each replica.",
        },
        AlarmKind::SelftestHidden => AlarmText {
            title: "A product is still hidden after a test",
            consequence: "Buyers cannot see or buy this product on the Market; the stock of all products is sent as usual.",
            remedy: "Wait, because the service tries to show the product again. If the shop was renamed or removed, restore its name or show the product in the Market's cabinet.",
        },
        AlarmKind::SourceFailed => AlarmText {
            title: "A source cannot be read or applied",
            consequence: "The stock from this source stays as it was and becomes outdated; other sources and programs still update the shop.",
            remedy: "Read the reason in the alarm, and correct the file, the connection or the login. Then poll the source again.",
        },
        AlarmKind::SourceHeld => AlarmText {
            title: "A delivery waits for your approval",
            consequence: "A delivery or a changed rule looks like a mistake that would empty the shop, so it is not applied and the stock stays as it was.",
            remedy: "Look at what would change, on the page Sources. If the file is wrong, deliver a correct one. If it is right, accept it on that page or by stockbridge accept SOURCE --shop NAME (for a rule: stockbridge accept rules --shop NAME).",
        },
        AlarmKind::SourceSilent => AlarmText {
            title: "The shop gets no stock from you",
            consequence: "The Market still gets the last known counts when it asks, but they may be outdated and are no longer sent to it daily.",
            remedy: "Check the program or the source that feeds the shop. The next delivery clears the alarm, even if no count has changed.",
        },
        AlarmKind::SourcesUnread => AlarmText {
            title: "No replica reads the sources",
            consequence: "The stock from the shop's sources stays as it was and becomes outdated; programs still update the shop, and the stock is still sent.",
            remedy: "Read the reason in the alarm. Start the replica that sources_on names, or remove the setting from all replicas, so that another one takes over.",
        },
        AlarmKind::StoreFailed => AlarmText {
            title: "The disk does not accept writes",
            consequence: "New stock is rejected with status 503, so the counts become outdated; the known stock is still served to the Market.",
            remedy: "Free space on the disk, or repair it. The service tries again every 5 seconds; programs must repeat the rejected updates.",
        },
        AlarmKind::UnmappedWarehouse => AlarmText {
            title: "The Market asks for an unknown warehouse",
            consequence: "The Market gets an error status for this warehouse and keeps the counts that it has; requests for the other warehouses are answered.",
            remedy: "Add the warehouse id to the setting warehouses of its shop and restart. stockbridge discover prints the ids.",
        },
    }
}
