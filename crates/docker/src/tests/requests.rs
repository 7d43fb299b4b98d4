//! Requests that are answered at once.

use serde_json::json;

use super::client::{post, served};
use super::fake::locked;

#[tokio::test]
async fn ping_answers_with_and_without_a_version() {
    let s = served();
    for what in ["GET /_ping", "GET /v1.40/_ping", "GET /v1.55/_ping"] {
        let answer = s.call(what).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "OK"), "{what}");
        for header in ["api-version: 1.55", "ostype: linux", "docker-experimental: false", "server: tare/"] {
            assert!(answer.head.to_ascii_lowercase().contains(header), "{header}: {}", answer.head);
        }
    }
    let mut client = s.connect().await;
    client.send("HEAD /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n").await;
    let all = String::from_utf8(client.rest().await).expect("text");
    assert!(all.starts_with("HTTP/1.1 200") && all.ends_with("\r\n\r\n"), "{all}");
}

#[tokio::test]
async fn versions_that_are_not_served_are_refused_in_dockers_words() {
    let s = served();
    let old = s.call("GET /v1.39/info").await;
    assert_eq!(old.status, 400);
    assert_eq!(
        old.json(),
        json!({"message": "client version 1.39 is too old. Minimum supported API version is 1.40, please upgrade your \
            client to a newer version"})
    );
    let new = s.call("GET /v1.56/_ping").await;
    assert_eq!((new.status, new.message().contains("too new")), (400, true));
    assert!(new.head.to_ascii_lowercase().contains("api-version: 1.55"), "clients negotiate by it");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_not_found() {
    let s = served();
    for what in
        ["GET /nowhere", "POST /_ping", "DELETE /containers/json/x", "GET /", "PATCH /info", "GET /v1.41"]
    {
        let answer = s.call(what).await;
        assert_eq!((answer.status, answer.message()), (404, "page not found".into()), "{what}");
    }
}

#[tokio::test]
async fn what_docker_has_and_tare_has_not_yet_is_refused_by_name() {
    let s = served();
    for (what, word) in [
        ("GET /containers/web/archive?path=/x", "archive"),
        ("PUT /containers/web/archive", "archive"),
        ("GET /containers/web/attach/ws", "web socket"),
        ("GET /images/a/b:c/get", "saving"),
        ("POST /build", "building"),
        ("POST /volumes/create", "volumes"),
    ] {
        let answer = s.call(what).await;
        assert_eq!((answer.status, answer.message().contains(word)), (501, true), "{what}: {}", answer.body);
    }
}

#[tokio::test]
async fn limits_are_changed_and_warnings_come_back() {
    let s = served();
    let answer = s.post("/containers/web/update", r#"{"CpuShares":77}"#).await;
    assert_eq!(
        (answer.status, answer.json()["Warnings"][0].as_str()),
        (200, Some("a warning")),
        "{}",
        answer.body
    );
    assert!(s.fake.log().contains(&"update to 77 shares web".to_owned()));
    let answer = s.post("/containers/web/update", r#"{"Privileged":true}"#).await;
    assert_eq!((answer.status, answer.message().contains("Privileged")), (501, true), "{}", answer.body);
}

#[tokio::test]
async fn requests_of_web_pages_are_refused() {
    let s = served();
    for header in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: same-origin"] {
        let answer =
            s.ask(&format!("POST /containers/web/start HTTP/1.1\r\nHost: docker\r\n{header}\r\n\r\n")).await;
        assert_eq!(answer.status, 403, "{header}");
    }
    assert!(s.fake.log().is_empty());
}

#[tokio::test]
async fn a_container_is_created_and_its_warnings_told() {
    let s = served();
    let answer = s.post("/v1.41/containers/create?name=web", r#"{"Image":"nginx","Env":["A=1"]}"#).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json(), json!({"Id": "ab".repeat(32), "Warnings": ["mind the gap"]}));
    assert_eq!(s.fake.log(), ["create web"]);
    s.post("/containers/create", r#"{"Image":"nginx"}"#).await;
    assert!(locked(&s.fake.configs)[1].process.env.is_empty(), "nothing of one request is in the next");
}

#[tokio::test]
async fn wrong_creations_never_reach_the_engine() {
    let s = served();
    let restart = r#"{"Image":"x","HostConfig":{"RestartPolicy":{"Name":"always"}}}"#;
    for (path, body, status, word) in [
        ("/containers/create", restart, 501, "HostConfig.RestartPolicy.Name"),
        ("/containers/create?name=a", r#"{"Image":"x"}"#, 400, "invalid container name"),
        ("/containers/create?platform=linux/s390x", r#"{"Image":"x"}"#, 501, "s390x"),
        ("/containers/create", "{", 400, "invalid JSON"),
        ("/containers/create", "", 400, "EOF"),
        ("/containers/create", "[]", 400, "invalid JSON"),
        ("/containers/create", "{}", 400, "Image"),
    ] {
        let answer = s.post(path, body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.body);
        assert!(answer.message().contains(word), "{}", answer.body);
    }
    assert!(s.fake.log().is_empty());
}

#[tokio::test]
async fn one_platform_of_an_image_cannot_be_picked_by_accident() {
    let s = served();
    for what in [
        "DELETE /images/nginx?platforms=%5B%7B%22os%22%3A%22linux%22%7D%5D",
        "GET /images/nginx/json?platform=%7B%22os%22%3A%22linux%22%7D",
        "GET /images/nginx/history?platform=linux",
    ] {
        let answer = s.call(what).await;
        assert_eq!((answer.status, answer.message().contains("platform")), (501, true), "{what}");
    }
    assert!(s.fake.log().is_empty());
}

#[tokio::test]
async fn json_of_another_media_type_is_refused() {
    let s = served();
    let request = post("/containers/create", r#"{"Image":"x"}"#);
    for media in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
        let answer = s.ask(&request.replace("application/json", media)).await;
        assert_eq!((answer.status, answer.message().contains(media)), (400, true));
    }
    let charset = request.replace("application/json", "application/json; charset=utf-8");
    assert_eq!(s.ask(&charset).await.status, 201);
}

#[tokio::test]
async fn errors_have_their_status_and_not_modified_has_no_body() {
    let s = served();
    let missing = s.call("POST /containers/missing/start").await;
    assert_eq!((missing.status, missing.message()), (404, "No such container: missing".into()));
    assert_eq!(s.call("DELETE /containers/running").await.status, 409);
    let same = s.call("POST /containers/running/start").await;
    assert_eq!((same.status, same.body.as_str()), (304, ""));
    let nope = s.call("POST /containers/nope/start").await;
    assert!(nope.message().contains("executable file not found"), "clients exit with 127 by it");
}

#[tokio::test]
async fn a_panic_in_one_request_is_an_error_of_that_request() {
    let s = served();
    assert_eq!(s.call("POST /containers/panic/start").await.status, 500);
    assert_eq!(s.call("GET /_ping").await.status, 200);
}

#[tokio::test]
async fn the_verbs_reach_the_engine() {
    let s = served();
    for (what, status) in [
        ("POST /containers/web/start", 204),
        ("POST /containers/web/stop?t=3&signal=INT", 204),
        ("POST /containers/web/restart", 204),
        ("POST /containers/web/kill", 204),
        ("POST /containers/web/kill?signal=HUP", 204),
        ("POST /containers/web/pause", 204),
        ("POST /containers/web/unpause", 204),
        ("POST /containers/web/rename?name=new", 204),
        ("POST /containers/web/resize?h=24&w=80", 200),
        ("POST /images/a/b:1/tag?repo=c&tag=2", 201),
        ("DELETE /containers/web?force=1&v=1", 204),
        ("DELETE /images/a/b:1?force=true", 200),
    ] {
        assert_eq!(s.call(what).await.status, status, "{what}");
    }
    assert_eq!(
        s.fake.log(),
        [
            "start web",
            "stop StopOptions { signal: Some(Signal(2)), timeout: Some(After(3s)) } web",
            "restart web",
            "kill SIGKILL web",
            "kill SIGHUP web",
            "pause web",
            "unpause web",
            "rename to new web",
            "resize 24x80 web",
            "tag docker.io/library/c:2 a/b:1",
            "remove by force web",
            "rmi force=true a/b:1",
        ]
    );
}

#[tokio::test]
async fn encoded_names_are_decoded_and_start_takes_no_settings() {
    let s = served();
    assert_eq!(s.call("POST /containers/%77eb/start").await.status, 204);
    assert_eq!(s.fake.log(), ["start web"]);
    assert_eq!(s.post("/containers/web/start", r#"{"Binds":["/:/host"]}"#).await.status, 400);
    assert_eq!(s.call("DELETE /containers/web?link=1").await.status, 501);
}

#[tokio::test]
async fn lists_and_documents_are_served() {
    let s = served();
    let rows =
        s.call("GET /containers/json?all=1&filters=%7B%22name%22%3A%5B%22%5E%2Fweb%24%22%5D%7D").await.json();
    assert_eq!(rows[0]["Names"], json!(["/web"]));
    let none = s.call("GET /containers/json?filters=%7B%22name%22%3A%5B%22db%22%5D%7D").await.json();
    assert_eq!(none, json!([]));
    assert_eq!(s.call("GET /containers/json?filters=%7B%22colour%22%3A%5B%22x%22%5D%7D").await.status, 400);
    assert_eq!(s.call("GET /containers/web/json").await.json()["Name"], json!("/web"));
    assert_eq!(s.call("GET /containers/web/top").await.json()["Titles"], json!(["PID", "CMD"]));
    assert_eq!(s.call("GET /images/json").await.json()[0]["RepoTags"], json!(["nginx:1.27"]));
    assert_eq!(s.call("GET /v1.43/images/nginx/json").await.json()["VirtualSize"], json!(1000));
    assert_eq!(s.call("GET /images/nginx/history").await.json()[0]["Size"], json!(1000));
    assert_eq!(s.call("GET /networks").await.json()[1]["Name"], json!("front"));
    assert_eq!(s.call("GET /volumes").await.json()["Volumes"][0]["Name"], json!("02".repeat(32)));
    assert_eq!(s.call("GET /version").await.json()["ApiVersion"], json!("1.55"));
    assert_eq!(s.call("GET /info").await.json()["ContainersRunning"], json!(1));
    assert_eq!(s.call("GET /v1.51/system/df").await.json()["LayersSize"], json!(1000));
    assert_eq!(s.call("GET /system/df").await.json()["ImageUsage"]["TotalCount"], json!(1));
}

#[tokio::test]
async fn pulling_says_what_to_do_instead() {
    let s = served();
    let answer = s.call("POST /images/create?fromImage=redis&tag=7").await;
    assert_eq!(answer.status, 404);
    assert!(
        answer.message().contains("cannot pull redis:7") && answer.message().contains("load"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn one_connection_serves_many_requests_even_sent_ahead() {
    let s = served();
    let mut client = s.connect().await;
    let ping = "GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n";
    client.send(&ping.repeat(3)).await;
    for _ in 0..3 {
        assert_eq!(client.answer().await.status, 200);
    }
    client.send(ping).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn pruning_removes_only_what_is_idle() {
    let s = served();
    let containers = s.call("POST /containers/prune").await;
    assert_eq!(containers.json(), json!({"ContainersDeleted": [], "SpaceReclaimed": 0}));
    let images = s.call("POST /images/prune").await;
    assert_eq!(
        images.json(),
        json!({"ImagesDeleted": [], "SpaceReclaimed": 0}),
        "the one image has a container"
    );
}

#[test]
fn the_documentation_names_every_path() {
    let page = include_str!("../../../../docs/api.md");
    for pattern in crate::routes::table::<super::fake::Fake>().patterns() {
        assert!(page.contains(&format!("`{pattern}`")), "{pattern}");
    }
}
