//! The clients that purge pages.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    app::TARGET,
    clients::{Client, Outcome, count},
    page::{ANONYMOUS, Kind, Page},
};

/// One of this many purges applies to a tag.
const PURGES_PER_TAG: u64 = 8;

/// One of this many purges applies to all pages.
const PURGES_PER_ALL: u64 = 100;

/// The number of times that a page is requested after a purge.
const CHECKS: usize = 2;

/// Purges pages. After each purge that succeeds, requests a page that it applies to. The handler
/// must have been called for this page after the purge.
pub(crate) async fn purge(mut client: Client) -> Outcome {
    loop {
        let page = Page::choose(&mut client.random, &Kind::NEW_BODIES);
        let (scope, target) = if client.random.one_in(PURGES_PER_ALL) {
            ("all", String::new())
        } else if client.random.one_in(PURGES_PER_TAG) {
            ("tag", page.tag())
        } else {
            ("url", page.to_string())
        };
        let lines = format!("{TARGET}: {target}\r\nContent-Length: 0\r\n");
        let response = client.exchange("POST", &format!("/purge/{scope}"), &lines).await?;
        match response.status {
            200 => count(&client.counters.purges),
            // The store failed.
            503 => {
                count(&client.counters.failed_purges);
                sleep(Duration::from_millis(20)).await;
                continue;
            }
            _ => return Err(format!("a purge gets an unexpected response: {response:?}")),
        }
        let before: u64 = std::str::from_utf8(&response.body)
            .ok()
            .and_then(|body| body.parse().ok())
            .ok_or_else(|| format!("a purge gets an unexpected response: {response:?}"))?;
        for _ in 0..CHECKS {
            let (response, call) = client.get(&page, "", ANONYMOUS).await?;
            if call <= before {
                return Err(format!(
                    "purged response: {before} handler calls had begun before a purge of {scope} \
                     {target:?}, and then {page} has the body of call {call}, with status {} and \
                     {:?}",
                    response.status,
                    response.field("cache-status")
                ));
            }
        }
        sleep(Duration::from_millis(client.random.below(40))).await;
    }
}
