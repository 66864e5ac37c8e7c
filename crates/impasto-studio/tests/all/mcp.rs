//! The server of the Model Context Protocol, as a client speaks with it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use impasto::image::{GenericImageView, load_from_memory};
use impasto::{Pipeline, Raster, Rgb};
use impasto_studio::{Mcp, Options};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf};

/// Environment variable that asks the test to write the description of the tools into its file.
const WRITE: &str = "IMPASTO_WRITE_TOOLS";

/// A client of a server with the embedded model.
struct Client {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    to: WriteHalf<DuplexStream>,
    last_id: u64,
    /// Notifications that the server sent.
    told: Vec<Value>,
}

impl Client {
    async fn start(folders: Vec<PathBuf>) -> Self {
        let server = Mcp::new(Pipeline::builder().build().unwrap(), Options::default(), folders).unwrap();
        let (own, other) = tokio::io::duplex(1 << 16);
        let (input, output) = tokio::io::split(other);
        tokio::spawn(server.serve(input, output, std::future::pending()));
        let (from, to) = tokio::io::split(own);
        let mut client = Self { lines: BufReader::new(from).lines(), to, last_id: 0, told: Vec::new() };
        let info = json!({ "name": "test", "version": "1" });
        let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info });
        let answer = client.ask("initialize", hello).await;
        assert_eq!(answer["result"]["serverInfo"]["name"], "impasto", "{answer}");
        client.send(json!({ "method": "notifications/initialized" })).await;
        client
    }

    async fn send(&mut self, mut message: Value) {
        message["jsonrpc"] = "2.0".into();
        self.to.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(Duration::from_secs(120), self.lines.next_line()).await;
        serde_json::from_str(&line.unwrap().unwrap().unwrap()).unwrap()
    }

    /// Sends a request and returns its number.
    async fn begin(&mut self, method: &str, params: Value) -> u64 {
        self.last_id += 1;
        self.send(json!({ "id": self.last_id, "method": method, "params": params })).await;
        self.last_id
    }

    /// Sends a request and returns the answer.
    async fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params).await;
        loop {
            let message = self.next().await;
            if message["id"] == id {
                return message;
            }
            self.told.push(message);
        }
    }

    /// Calls a tool and returns the result, which must be a success.
    async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.ask("tools/call", json!({ "name": tool, "arguments": arguments })).await;
        let result = &answer["result"];
        assert_eq!(result["isError"], false, "{tool}: {}", answer["error"]);
        result.clone()
    }

    /// Calls a tool and returns the sentence of the failure.
    async fn refused(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.ask("tools/call", json!({ "name": tool, "arguments": arguments })).await;
        assert_eq!(answer["result"]["isError"], true, "{tool}: {answer}");
        answer["result"]["content"][0]["text"].as_str().unwrap().to_owned()
    }
}

/// Returns the PNG in a part of a result.
fn png(part: &Value) -> Vec<u8> {
    assert_eq!((&part["type"], &part["mimeType"]), (&"image".into(), &"image/png".into()));
    BASE64_STANDARD.decode(part["data"].as_str().unwrap()).unwrap()
}

/// Arguments of a call that paints in an instant.
fn small(more: Value) -> Value {
    let mut arguments = json!({ "prompt": "1girl, hair", "steps": 2, "seed": 7, "size": "64x64" });
    arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    arguments
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_are_described_as_in_their_file() {
    let mut client = Client::start(Vec::new()).await;
    let mut tools = client.ask("tools/list", json!({})).await["result"]["tools"].take();
    // The fields of a job and their schemas are those of openapi.json.
    for tool in tools.as_array_mut().unwrap() {
        for part in ["properties", "$defs"] {
            let names = tool["inputSchema"][part].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            tool["inputSchema"][part] = names.into();
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/mcp_tools.json");
    if std::env::var_os(WRITE).is_some() {
        return std::fs::write(file, format!("{tools:#}\n")).unwrap();
    }
    let written: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(tools, written, "write mcp_tools.json by this test with {WRITE}=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn painted_pictures_are_repainted_and_looked_at() {
    let mut client = Client::start(Vec::new()).await;
    let painted = client.call("paint_exact", small(json!({ "forces": { "hair": "teal" }, "images": 2 }))).await;
    let file = png(&painted["content"][0]);
    assert_eq!(load_from_memory(&file).unwrap().dimensions(), (64, 64));
    let report = &painted["structuredContent"];
    assert_eq!(report["pictures"][1], json!({ "name": "picture:1/1", "seed": 8, "width": 64, "height": 64 }));
    let color = &report["colors"][0];
    assert_eq!((&color["label"], &color["asked"]), (&"hair".into(), &"#008080".into()), "{report}");
    assert!(color["delta_e"].is_f64() && color["converged"].is_boolean(), "{report}");
    let text = painted["content"][2]["text"].as_str().unwrap();
    assert!(text.contains("picture:1/0: 64×64, seed 7") && text.contains("asked #008080"), "{text}");

    let mask = Raster::flat(Rgb(0, 0, 0), (64, 64)).data_url().unwrap();
    let arguments = json!({ "start": "picture:1/0", "mask": mask, "prompt": "1girl, hair", "steps": 2, "seed": 7 });
    let repainted = client.call("repaint", arguments).await;
    let [before, after] = [&file, &png(&repainted["content"][0])].map(|file| load_from_memory(file).unwrap());
    assert_eq!(before.into_rgb8(), after.into_rgb8(), "a black mask keeps every pixel");

    let recipe = client.call("look", json!({ "picture": "picture:1/0" })).await;
    let settings = &recipe["structuredContent"]["recipe"];
    assert_eq!((&settings["seed"], &settings["prompt"]), (&7.into(), &"1girl, hair".into()), "{settings}");
    assert!(recipe["content"][0]["text"].as_str().unwrap().contains("Seed: 7"), "{recipe}");
    let by_value = json!({ "picture": BASE64_STANDARD.encode(&file), "words": ["hair"] });
    for arguments in [json!({ "picture": "picture:1", "words": ["hair"] }), by_value] {
        let shown = client.call("look", arguments).await;
        assert_eq!(load_from_memory(&png(&shown["content"][0])).unwrap().dimensions(), (64, 64));
        assert_eq!(shown["structuredContent"]["words"][0]["word"], "hair");
    }
    let sentence = client.refused("look", json!({ "picture": "picture:1/0", "words": ["boat"] })).await;
    assert!(sentence.contains("expected words of the prompt: 1girl, hair"), "{sentence}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_call_are_told_to_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    Raster::flat(Rgb(9, 9, 9), (64, 64)).save(folder.path().join("a.png")).unwrap();
    let mut client = Client::start(vec![folder.path().into()]).await;
    let cases = [
        ("paint", json!({}), "prompt is missing"),
        ("paint", small(json!({ "steps": 0 })), "steps is 0; expected 1 to 150"),
        ("paint", small(json!({ "sed": 7 })), "did you mean `seed`?"),
        ("paint", small(json!({ "images": 9 })), "images is 9; expected 1 to 4"),
        ("paint", small(json!({ "start": "/etc/passwd" })), "expected a file in the folders"),
        (
            "paint_exact",
            small(json!({ "forces": { "hat": "red" } })),
            "exact color: phrase \"hat\" is not in the prompt",
        ),
        ("repaint", json!({ "prompt": "a boat", "start": "picture:9" }), "expected the name of one of the latest"),
        ("look", json!({ "picture": "a.png" }), "has no recipe"),
        ("look", json!({ "picture": "a.png", "word": 7 }), "unknown field \"word\""),
    ];
    for (tool, arguments, expected) in cases {
        let sentence = client.refused(tool, arguments).await;
        assert!(sentence.contains(expected), "{tool}: {sentence}");
    }
    let answer = client.ask("tools/call", json!({ "name": "draw", "arguments": {} })).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("no tool has the name \"draw\""), "{answer}");
    let started = json!({ "prompt": "a boat", "start": "a.png", "steps": 2 });
    client.call("paint", started).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_and_calls_are_cancelled() {
    let mut client = Client::start(Vec::new()).await;
    let call = |steps: u64, token: &str| {
        let arguments = small(json!({ "steps": steps }));
        json!({ "name": "paint", "arguments": arguments, "_meta": { "progressToken": token } })
    };
    client.ask("tools/call", call(8, "first")).await;
    let shares: Vec<f64> = client.told.iter().filter_map(|told| told["params"]["progress"].as_f64()).collect();
    assert!(!shares.is_empty() && shares.is_sorted_by(|a, b| a < b), "{:?}", client.told);
    assert_eq!(client.told[0]["params"]["progressToken"], "first");

    let id = client.begin("tools/call", call(150, "second")).await;
    while client.next().await["params"]["progressToken"] != "second" {}
    client.send(json!({ "method": "notifications/cancelled", "params": { "requestId": id } })).await;
    let begun = std::time::Instant::now();
    client.call("paint", small(json!({ "steps": 1 }))).await;
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let cancelled = client.told.iter().any(|message| message["id"] == id);
    assert!(!cancelled, "a cancelled call has no answer");
}
