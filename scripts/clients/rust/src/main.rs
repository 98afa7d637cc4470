//! kube-rs, as it is: `with-kube-rs use NAMESPACE NAME LAST`, `with-kube-rs exec NAMESPACE POD COMMAND…`

use futures::TryStreamExt;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Pod},
    apimachinery::pkg::apis::meta::v1::Status,
};
use kube::{
    Client,
    api::{Api, AttachParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use std::{
    error::Error,
    io::{Read, Write},
    pin::pin,
    process::ExitCode,
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

async fn use_maps(maps: &Api<ConfigMap>, name: &str, last: &str) -> Result<(), Box<dyn Error>> {
    println!("got {}", state(&maps.get("seed").await?));
    let list = maps.list(&ListParams::default()).await?;
    for each in &list.items {
        println!("listed {}", each.metadata.name.as_deref().unwrap_or_default());
    }
    apply(maps, name, "first").await?;
    let mut version = list.metadata.resource_version.unwrap_or_default();
    loop {
        match follow(maps, name, &version, last).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => eprintln!("{error}"),
        }
        version = "0".to_owned();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn exit_code(status: &Status) -> Option<u8> {
    if status.status.as_deref() == Some("Success") {
        return Some(0);
    }
    let causes = status.details.as_ref()?.causes.as_ref()?;
    causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"))?.message.as_ref()?.parse().ok()
}

/// The exit code of a command in a pod that has this program's streams.
async fn execute(pods: &Api<Pod>, pod: &str, command: &[&str]) -> Result<u8, Box<dyn Error>> {
    let mut process = pods.exec(pod, command.iter().copied(), &AttachParams::default().stdin(true)).await?;
    let (Some(status), Some(mut input), Some(mut output), Some(mut errors)) =
        (process.take_status(), process.stdin(), process.stdout(), process.stderr())
    else {
        return Err("a stream is missing".into());
    };
    let mut given = Vec::new();
    std::io::stdin().read_to_end(&mut given)?;
    let (mut printed, mut complained) = (Vec::new(), Vec::new());
    tokio::try_join!(
        async {
            input.write_all(&given).await?;
            input.shutdown().await
        },
        output.read_to_end(&mut printed),
        errors.read_to_end(&mut complained),
    )?;
    std::io::stdout().write_all(&printed)?;
    std::io::stderr().write_all(&complained)?;
    let ended = status.await.ok_or("no status")?;
    exit_code(&ended).ok_or_else(|| format!("no exit code: {ended:?}").into())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let client = Client::try_default().await?;
    match &arguments[..] {
        ["use", namespace, name, last] => {
            use_maps(&Api::namespaced(client, namespace), name, last).await?;
            Ok(ExitCode::SUCCESS)
        }
        ["exec", namespace, pod, command @ ..] => {
            Ok(execute(&Api::namespaced(client, namespace), pod, command).await?.into())
        }
        _ => Err("usage: with-kube-rs use NAMESPACE NAME LAST | with-kube-rs exec NAMESPACE POD COMMAND…".into()),
    }
}
