//! A server's turn: requests on several connections, and the CPU time that they cost.

use std::time::Duration;

use crate::market::BlockingClient;

/// Parallel requests, each on its own connection.
pub(crate) const CONNECTIONS: usize = 8;

/// Returns the server's CPU time for `number` of these requests, in turn, on new connections.
pub(crate) fn measure(
    connect: impl Fn() -> anyhow::Result<BlockingClient>,
    cpu: impl Fn() -> anyhow::Result<Duration>,
    requests: &[Vec<u8>],
    number: usize,
) -> anyhow::Result<Duration> {
    let mut clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| connect())
        .collect::<Result<_, _>>()?;
    // Connecting and the first request of each connection are not measured.
    exchange_all(&mut clients, &mut requests.iter())?;
    let before = cpu()?;
    let mut cycle = requests.iter().cycle();
    for _ in 0..number / CONNECTIONS {
        exchange_all(&mut clients, &mut cycle)?;
    }
    Ok(cpu()? - before)
}

fn exchange_all<'a>(
    clients: &mut [BlockingClient],
    requests: &mut impl Iterator<Item = &'a Vec<u8>>,
) -> anyhow::Result<()> {
    for (client, request) in clients.iter_mut().zip(requests) {
        client.send(request)?;
    }
    for client in clients.iter_mut() {
        client.receive()?;
    }
    Ok(())
}
