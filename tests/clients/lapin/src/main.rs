//! Scenarios through lapin.

mod connections;
mod dead_letters;
mod messages;
mod rig;

use lapin::Result;

use rig::Rig;

async fn run(scenario: &str, rig: &Rig) -> Result<()> {
    match scenario {
        "topology" => messages::topology(rig).await,
        "confirms" => messages::confirms(rig).await,
        "returns" => messages::returns(rig).await,
        "acks" => messages::acks(rig).await,
        "prefetch" => messages::prefetch(rig, false).await,
        "global_prefetch" => messages::prefetch(rig, true).await,
        "get" => messages::get(rig).await,
        "large" => messages::large(rig).await,
        "headers" => messages::headers(rig).await,
        "expiration" => messages::expiration(rig).await,
        "dead_letters" => dead_letters::dead_letters(rig).await,
        "tx" => messages::tx(rig).await,
        "reply_to" => messages::reply_to(rig).await,
        "errors" => connections::errors(rig).await,
        "cancel_notify" => connections::cancel_notify(rig).await,
        "heartbeat" => connections::heartbeat(rig).await,
        "blocked" => connections::blocked(rig).await,
        "reconnect" => connections::reconnect(rig).await,
        other => panic!("no scenario {other}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let scenario = std::env::args().nth(1).expect("a scenario");
    let rig = Rig::connect(if scenario == "heartbeat" { 1 } else { 30 }).await?;
    run(&scenario, &rig).await?;
    rig.connection.close(200, "".into()).await?;
    println!("ok {scenario}");
    Ok(())
}
