//! Tests of pictures from a folder or a list.

use impasto::{Raster, Result, Rgb, Size};
use impasto_train::{Listed, Pictures};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

const COLORS: [Rgb; 4] = [Rgb(250, 20, 20), Rgb(20, 250, 20), Rgb(20, 20, 250), Rgb(250, 250, 20)];

/// Writes flat pictures `0.png` to `3.png`, wider than high.
fn pictures(folder: &Path) {
    for (number, color) in COLORS.into_iter().enumerate() {
        Raster::flat(color, (40, 20)).save(folder.join(format!("{number}.png"))).unwrap();
    }
}

fn open(path: &Path) -> Result<Listed> {
    let cache = path.with_extension("cache");
    Listed::open(path, &cache, Size::new(16, 24), 7)
}

/// Returns the captions of the samples from `first` on, and checks the size and the color of each sample.
fn captions(listed: &Listed, first: u64, count: u64) -> Vec<String> {
    let sample = |number| {
        let sample = listed.sample(number).unwrap();
        assert_eq!(sample.picture.size(), Size::new(16, 24));
        let color = sample.caption.chars().next().and_then(|digit| digit.to_digit(10)).unwrap();
        assert_eq!(sample.picture.pixel(8, 12), Some(COLORS[color as usize]));
        sample.caption
    };
    (first..first + count).map(sample).collect()
}

#[test]
fn folder_has_captions_beside_its_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    fs::create_dir(&own).unwrap();
    pictures(&own);
    (0..4)
        .for_each(|number| fs::write(own.join(format!("{number}.txt")), format!("{number} a flat picture\n")).unwrap());
    fs::write(own.join("notes.md"), "no picture").unwrap();
    let listed = open(&own).unwrap();
    assert_eq!(listed.len(), 4);
    let mut round = captions(&listed, 0, 4);
    let second = captions(&listed, 4, 40);
    // The seed determines the order, from every number on.
    assert_eq!(captions(&open(&own).unwrap(), 2, 6)[..2], round[2..]);
    assert_eq!(captions(&open(&own).unwrap(), 4, 40), second);
    round.sort();
    assert_eq!(round, ["0 a flat picture", "1 a flat picture", "2 a flat picture", "3 a flat picture"]);
    assert!(second.chunks(4).any(|order| order != &second[..4]), "every round has one order");
    assert_eq!(listed.skipped(), Some(0));
}

#[test]
fn bad_pictures_of_a_list_are_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    fs::write(folder.path().join("broken.png"), b"\x89PNG and no more").unwrap();
    let list = folder.path().join("list.jsonl");
    let lines = [
        r#"{"picture": "0.png", "caption": "0 red"}"#,
        r#"{"file_name": "broken.png", "text": "nothing"}"#,
        "",
        r#"{"image": "none.png", "prompt": "nothing"}"#,
        r#"{"path": "3.png", "caption": "3 yellow"}"#,
        r#"{"url": "ftp://example.org/4.png"}"#,
    ];
    fs::write(&list, lines.join("\n")).unwrap();
    let listed = open(&list).unwrap();
    let all = captions(&listed, 0, 15);
    assert!(all.contains(&"0 red".to_owned()) && all.contains(&"3 yellow".to_owned()));
    assert_eq!(listed.skipped(), Some(3));
    let problem = listed.problem().unwrap();
    assert!(["broken.png", "none.png", "ftp"].iter().any(|name| problem.contains(name)), "{problem}");

    fs::write(&list, "{\"picture\": \"broken.png\"}\n").unwrap();
    let error = open(&list).unwrap().sample(0).unwrap_err().to_string();
    assert!(
        error.contains("pictures is 1, none of which can be read; expected at least one readable picture; broken.png"),
        "{error}"
    );
}

#[test]
fn invalid_and_missing_lists_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.jsonl");
    fs::write(&list, "{\"picture\": \"0.png\"}\n{\"caption\": \"no picture\"}\n").unwrap();
    let error = open(&list).unwrap_err().to_string();
    assert!(error.contains("list.jsonl, line 2") && error.contains("expected a line such as"), "{error}");
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("expected at least one picture (png, jpg, jpeg, webp)"), "{error}");
    assert!(open(&folder.path().join("nowhere.jsonl")).is_err());
}

#[test]
fn pictures_at_urls_are_fetched_once() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let body = fs::read(folder.path().join("2.png")).unwrap();
    // Serves one picture, /2.png, and nothing else.
    let asked = std::thread::spawn(move || {
        let mut asked = 0;
        for stream in server.incoming().take(2) {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            let found = request[..length].starts_with(b"GET /2.png ");
            asked += usize::from(found);
            let (status, body) = if found { ("200 OK", &body[..]) } else { ("404 Not Found", &[][..]) };
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()).unwrap();
            stream.write_all(body).unwrap();
        }
        asked
    });
    let list = folder.path().join("list.jsonl");
    let line = |name: &str| format!("{{\"url\": \"http://{address}/{name}\", \"caption\": \"2 blue\"}}");
    fs::write(&list, [line("2.png"), line("gone.png")].join("\n")).unwrap();
    let listed = open(&list).unwrap();
    assert_eq!(captions(&listed, 0, 6), vec!["2 blue"; 6]);
    assert_eq!(listed.skipped(), Some(1));
    assert!(listed.problem().unwrap().contains("gone.png"));
    assert_eq!(asked.join().unwrap(), 1);
    // The server is gone; the cache has the picture.
    assert_eq!(captions(&open(&list).unwrap(), 0, 3), vec!["2 blue"; 3]);
}
