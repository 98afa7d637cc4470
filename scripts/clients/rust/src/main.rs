//! kube-rs, as it is: `with-kube-rs NAMESPACE NAME LAST`

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Client,
    api::{Api, ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use std::{error::Error, pin::pin, time::Duration};

async fn apply(maps: &Api<ConfigMap>, name: &str, state: &str) -> Result<(), kube::Error> {
    let wanted = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"state": state},
    });
    maps.patch(name, &PatchParams::apply("kube-rs").force(), &Patch::Apply(&wanted)).await?;
    Ok(())
}

fn state(map: &ConfigMap) -> &str {
    map.data.as_ref().and_then(|data| data.get("state")).map_or("", String::as_str)
}

/// True once the last state was seen, false where the watch has ended.
async fn follow(maps: &Api<ConfigMap>, name: &str, version: &str, last: &str) -> Result<bool, Box<dyn Error>> {
    let parameters = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = pin!(maps.watch(&parameters, version).await?);
    while let Some(event) = events.try_next().await? {
        let (kind, seen) = match event {
            WatchEvent::Added(seen) => ("ADDED", seen),
            WatchEvent::Modified(seen) => ("MODIFIED", seen),
            other => return Err(format!("{other:?}").into()),
        };
        println!("watched {kind} {}", state(&seen));
        match state(&seen) {
            found if found == last => return Ok(true),
            "first" => apply(maps, name, "second").await?,
            "third" => apply(maps, name, "fourth").await?,
            _ => {}
        }
    }
    Ok(false)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, namespace, name, last] = &arguments[..] else {
        return Err("usage: with-kube-rs NAMESPACE NAME LAST".into());
    };
    let maps: Api<ConfigMap> = Api::namespaced(Client::try_default().await?, namespace);
    println!("got {}", state(&maps.get("seed").await?));
    let list = maps.list(&ListParams::default()).await?;
    for each in &list.items {
        println!("listed {}", each.metadata.name.as_deref().unwrap_or_default());
    }
    apply(&maps, name, "first").await?;
    let mut version = list.metadata.resource_version.unwrap_or_default();
    loop {
        match follow(&maps, name, &version, last).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => eprintln!("{error}"),
        }
        version = "0".to_owned();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
