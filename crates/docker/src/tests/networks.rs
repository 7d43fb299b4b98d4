//! Networks and ports over the wire.

use serde_json::{Value, json};

use super::client::served;
use super::fake::locked;

#[tokio::test]
async fn networks_are_listed_and_filtered() {
    let s = served();
    for (filters, names) in [
        ("{}", &["bridge", "front", "host", "idle", "none"][..]),
        (r#"{"name":["o"]}"#, &["front", "host", "none"]),
        (r#"{"driver":["null"]}"#, &["none"]),
        (r#"{"type":["custom"]}"#, &["front", "idle"]),
        (r#"{"type":["builtin"],"label":["tier=host"]}"#, &["host"]),
        (r#"{"dangling":["true"]}"#, &["idle"]),
        (r#"{"dangling":["false"],"type":["custom"]}"#, &["front"]),
        (r#"{"scope":["swarm"]}"#, &[]),
        (r#"{"id":["f0f0"]}"#, &["front"]),
    ] {
        let encoded: String = filters.bytes().map(|b| format!("%{b:02x}")).collect();
        let rows = s.call(&format!("GET /networks?filters={encoded}")).await.json();
        let found: Vec<&str> = rows.as_array().unwrap().iter().filter_map(|r| r["Name"].as_str()).collect();
        assert_eq!(found, names, "{filters}");
    }
    for bad in ["%7B%22colour%22%3A%5B%22x%22%5D%7D", "%7B%22type%22%3A%5B%22x%22%5D%7D"] {
        let answer = s.call(&format!("GET /networks?filters={bad}")).await;
        assert_eq!((answer.status, answer.message().contains("invalid filter")), (400, true));
    }
}

#[tokio::test]
async fn a_network_is_shown_as_dockers_in_each_version() {
    let s = served();
    let expected = json!({
        "Name": "front", "Id": "f0".repeat(32), "Created": "2023-11-14T22:13:20Z", "Scope": "local", "Driver": "bridge",
        "EnableIPv4": true, "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": {}, "Config": [{"Subnet": "172.20.0.0/16", "Gateway": "172.20.0.1"}]},
        "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
        "Containers": {"ab".repeat(32): {"Name": "web", "EndpointID": "e0".repeat(32), "MacAddress": "02:42:ac:14:00:02",
            "IPv4Address": "172.20.0.2/16", "IPv6Address": ""}},
        "Options": {}, "Labels": {"tier": "front"},
        "Status": {"IPAM": {"Subnets": {"172.20.0.0/16": {"IPsInUse": 4, "DynamicIPsAvailable": 65532}}}},
    });
    assert_eq!(s.call("GET /networks/front?verbose=true&scope=local").await.json(), expected);
    assert_eq!(s.call("GET /v1.51/networks/f0f0f0").await.json().get("Status"), None);
    assert_eq!(s.call("GET /v1.47/networks/front").await.json().get("EnableIPv4"), None);
    assert_eq!(s.call("GET /networks").await.json()[0].get("Containers"), None);
    assert_eq!(s.call("GET /v1.51/networks").await.json()[0]["Containers"], json!({}));
    assert_eq!(s.call("GET /networks/none").await.json()["IPAM"]["Config"], Value::Null);
    let missing = s.call("GET /networks/nowhere").await;
    assert_eq!((missing.status, missing.message().as_str()), (404, "network nowhere not found"));
    assert_eq!(s.call("GET /networks/front?scope=swarm").await.status, 404);
}

#[tokio::test]
async fn a_network_is_made_and_removed() {
    let s = served();
    let answer = s.post("/networks/create", r#"{"Name":"back","Internal":true,"Labels":{"a":"b"}}"#).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.json(), json!({"Id": "f1".repeat(32), "Warning": "a warning"}));
    let made = locked(&s.fake.networks).pop().expect("it reached the engine");
    assert_eq!((made.name.as_str(), made.internal, made.ipv6), ("back", true, true));
    assert_eq!(s.call("DELETE /networks/idle").await.status, 204);
    for (key, status) in [("front", 403), ("bridge", 403), ("nowhere", 404)] {
        assert_eq!(s.call(&format!("DELETE /networks/{key}")).await.status, status, "{key}");
    }
    for (body, status) in [
        (r#"{"Name":"host"}"#, 403),
        (r#"{"Driver":"bridge"}"#, 400),
        (r#"{"Name":"x","Driver":"overlay"}"#, 501),
        (r#"{"Name":"x","Driver":"weave"}"#, 404),
        (r#"{"Name":7}"#, 400),
    ] {
        assert_eq!(s.post("/networks/create", body).await.status, status, "{body}");
    }
    assert_eq!(s.fake.log(), ["network create back", "network remove idle"]);
}

#[tokio::test]
async fn containers_come_and_go() {
    let s = served();
    let body = r#"{"container":"web","endpointconfig":{"Aliases":["www"],"IPAMConfig":{"IPv4Address":"172.20.0.9"}}}"#;
    assert_eq!(s.post("/networks/front/connect", body).await.status, 200);
    assert_eq!(s.post("/networks/bridge/connect", r#"{"Container":"web"}"#).await.status, 200);
    let refused = s.post("/networks/bridge/connect", body).await;
    assert_eq!((refused.status, refused.message().contains("user defined networks only")), (400, true));
    assert_eq!(s.post("/networks/nowhere/connect", body).await.status, 404);
    assert_eq!(s.post("/networks/front/connect", r#"{"Container":"missing"}"#).await.status, 404);
    assert_eq!(s.post("/networks/front/connect", "{}").await.status, 400);
    let gone = r#"{"Container":"web","Force":true}"#;
    assert_eq!(s.post("/networks/front/disconnect", gone).await.status, 200);
    let front = "f0".repeat(32);
    let bridge = "b0".repeat(32);
    assert_eq!(
        s.fake.log(),
        [
            format!("connect {front} [\"www\"] web"),
            format!("connect {bridge} [] web"),
            "disconnect front force=true web".to_owned()
        ]
    );
}

#[tokio::test]
async fn networks_that_nobody_uses_are_pruned() {
    let s = served();
    assert_eq!(s.call("POST /networks/prune").await.json(), json!({"NetworksDeleted": ["idle"]}));
    let kept = "POST /networks/prune?filters=%7B%22label%21%22%3A%5B%22tier%22%5D%7D";
    assert_eq!(s.call(kept).await.json(), json!({"NetworksDeleted": []}));
    let old = "POST /networks/prune?filters=%7B%22until%22%3A%5B%221600000000%22%5D%7D";
    assert_eq!(s.call(old).await.json(), json!({"NetworksDeleted": []}));
    assert_eq!(s.fake.log(), [format!("network remove {}", "1d".repeat(32))]);
}

#[tokio::test]
async fn ports_are_changed_live() {
    let s = served();
    let body = r#"{"Add":{"80/tcp":[{"HostPort":"8080"}]},"Remove":{"443":[{}]}}"#;
    let answer = s.post("/containers/web/ports", body).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"Ports": {}})));
    assert_eq!(s.fake.log(), ["ports +1 -1 web"]);
    for (body, word) in [
        ("{}", "nothing to do"),
        (r#"{"Add":{"http":[]}}"#, "invalid port specification"),
        (r#"{"Added":{}}"#, "Added"),
    ] {
        let answer = s.post("/containers/web/ports", body).await;
        assert_eq!((answer.status, answer.message().contains(word)), (400, true), "{}", answer.body);
    }
    assert_eq!(s.post("/containers/missing/ports", r#"{"Add":{"80":[]}}"#).await.status, 404);
}

#[tokio::test]
async fn a_networks_own_rate_is_changed() {
    let s = served();
    assert_eq!(s.post("/networks/front/update", r#"{"InRate":5000,"OutRate":0}"#).await.status, 200);
    assert_eq!(s.fake.log(), ["network update in=Some(5000) front"]);
    for (network, body, status) in
        [("front", "{}", 400), ("front", r#"{"Share":1}"#, 400), ("missing", r#"{"InRate":5000}"#, 404)]
    {
        assert_eq!(s.post(&format!("/networks/{network}/update"), body).await.status, status, "{body}");
    }
}

#[tokio::test]
async fn networks_go_wrong_on_purpose_and_are_mended() {
    let s = served();
    let answer = s.post("/containers/web/faults", r#"{"Loss":5,"Duration":1000000000}"#).await;
    let id = "fa".repeat(32);
    let fault = answer.json();
    assert_eq!((answer.status, &fault["Id"], &fault["Loss"]), (201, &json!(id), &json!(5.0)));
    assert_eq!((&fault["Summary"], &fault["Direction"]), (&json!("loss 5%"), &json!("both")));
    assert_eq!(s.call("GET /faults").await.json(), json!([]));
    assert_eq!(s.call(&format!("DELETE /faults/{id}")).await.status, 204);
    assert_eq!(s.call("DELETE /containers/web/faults").await.json(), json!({"Ended": []}));
    let log = ["fault loss 5% web".to_owned(), format!("fault remove {id}"), "faults clear web".to_owned()];
    assert_eq!(s.fake.log(), log);
    for body in [r#"{"Loss":500}"#, r#"{"Weather":1}"#, ""] {
        assert_eq!(s.post("/containers/web/faults", body).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn a_container_is_made_with_networks_and_the_faces_warnings() {
    let s = served();
    let body = r#"{"Image":"nginx","HostConfig":{"NetworkMode":"host","PortBindings":{"80/tcp":[{"HostPort":"80"}]}}}"#;
    let answer = s.post("/containers/create?name=web", body).await;
    assert_eq!(
        answer.json()["Warnings"],
        json!(["Published ports are discarded when using host network mode", "mind the gap"])
    );
    let two = r#"{"Image":"nginx","HostConfig":{"NetworkMode":"front"},"NetworkingConfig":{"EndpointsConfig":{"front":{},"back":{}}}}"#;
    assert_eq!(s.post("/v1.44/containers/create", two).await.status, 201);
    let old = s.post("/v1.43/containers/create", two).await;
    assert_eq!((old.status, old.message().contains("multiple network endpoints")), (400, true));
}
