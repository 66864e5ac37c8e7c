//! `impasto mcp` as an agent starts it.

use super::{failure, impasto};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// A server, and its client.
struct Server {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Server {
    fn start(folder: &std::path::Path, options: &[&str]) -> Self {
        let mut command = impasto(folder, &[&["mcp"][..], options].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.to, "{message}").unwrap();
    }

    /// Sends a request and returns the answer, which must be the next line of the output.
    fn ask(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["id"], id, "{line}");
        answer
    }

    fn greet(&mut self) -> Value {
        let info = json!({ "name": "test", "version": "1" });
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info });
        let answer = self.ask(1, "initialize", params);
        self.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        answer
    }

    /// Closes the input, and returns what the server wrote to the standard error.
    fn end(self) -> String {
        let Self { child, to, mut from } = self;
        drop(to);
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut from, &mut rest).unwrap();
        let output = child.wait_with_output().unwrap();
        let told = super::text(&output.stderr);
        assert!(output.status.success() && rest.is_empty(), "{rest}{told}");
        told
    }
}

#[test]
fn mcp_server_paints_over_its_pipes() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &["--side", "128"]);
    let greeting = server.greet();
    assert_eq!(greeting["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(greeting["result"]["capabilities"], json!({ "tools": {} }));
    let tools = server.ask(2, "tools/list", json!({}));
    let names = tools["result"]["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]);
    assert_eq!(names.collect::<Vec<_>>(), ["paint", "paint_exact", "repaint", "look"]);
    let call = |size: &str| {
        let arguments = json!({ "prompt": "a boat", "steps": 1, "size": size, "seed": 3 });
        json!({ "name": "paint", "arguments": arguments })
    };
    let painted = server.ask(3, "tools/call", call("64x64"));
    assert_eq!(painted["result"]["content"][0]["mimeType"], "image/png", "{}", painted["error"]);
    assert_eq!(painted["result"]["structuredContent"]["pictures"][0]["seed"], 3);
    let refused = server.ask(4, "tools/call", call("256x256"));
    let text = "width is 256; expected 1 to 128; the program's option --side allows longer sides";
    assert_eq!(refused["result"]["content"][0]["text"], text);
    assert_eq!(refused["result"]["isError"], true);
    assert_eq!(server.end(), "The server waits for an agent on the standard input. Ctrl-C ends the server.\n");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no file is written");
}

#[test]
fn mcp_server_ends_with_its_client() {
    let folder = tempfile::tempdir().unwrap();
    Server::start(folder.path(), &[]).end();
    let mut silent = Server::start(folder.path(), &[]);
    silent.greet();
    silent.end();
}

#[test]
fn mcp_server_names_a_missing_folder() {
    let folder = tempfile::tempdir().unwrap();
    let message = failure(folder.path(), &["mcp", "--folder", "missing"], 2);
    assert!(message.contains("--folder: the folder missing cannot be used"), "{message}");
}
