//! The things that a person finds again: after a reload, in a second tab, and after the server was restarted.

use crate::artist::READY;
use crate::{PROMPT, Page};
use fantoccini::actions::{InputSource, PointerAction, TouchActions};
use impasto::{Pipeline, Source};
use impasto_studio::{Options, Studio};
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Script that returns the number of pictures in the history.
const PICTURES: &str = "document.querySelectorAll('#history [data-seed]').length";
/// Script that returns whether a run goes on.
const RUNS: &str = "return document.querySelector('#progress').value > 0";

/// Script that catches the next file that the page would save, as `made`: its name and its content.
const CATCH: &str = "window.made = null;
    const { click } = HTMLAnchorElement.prototype, { createObjectURL } = URL;
    URL.createObjectURL = file => { window.file = file; return createObjectURL.call(URL, file); };
    HTMLAnchorElement.prototype.click = function () {
        window.made = { name: this.download, file: window.file };
        HTMLAnchorElement.prototype.click = click;
        URL.createObjectURL = createObjectURL;
    };";

/// Opens the page in a second tab. Returns the first one.
async fn second_tab(page: &Page) -> fantoccini::wd::WindowHandle {
    let (url, first) = (page.client.current_url().await.unwrap(), page.client.window().await.unwrap());
    let second = page.client.new_window(true).await.unwrap().handle;
    page.client.switch_to_window(second).await.unwrap();
    page.client.goto(url.as_str()).await.unwrap();
    first
}

pub async fn watched(page: &Page) {
    page.fill("#prompt", PROMPT).await;
    page.fill("#steps", "150").await;
    page.find("#images").await.select_by_value("4").await.unwrap();
    page.click("#paint").await;
    page.until(RUNS).await;

    // A second tab has the prompt, and shows the run. It may paint, and it leaves the run to the first tab.
    let first = second_tab(page).await;
    page.until(RUNS).await;
    assert_eq!(page.text_of("#prompt").await, PROMPT);
    page.until(READY).await;
    page.client.refresh().await.unwrap();
    page.until(RUNS).await;
    page.until("return document.querySelector('#progress-text').textContent.includes('left')").await;
    page.screenshot("kept_second_tab").await;
    page.fill("#steps", "2").await;
    page.find("#images").await.select_by_value("1").await.unwrap();
    page.click("#paint").await;
    page.until("return document.querySelector('#progress-text').textContent.startsWith('waiting, 1 before')").await;
    let second = page.client.window().await.unwrap();
    page.client.switch_to_window(first.clone()).await.unwrap();
    page.until(RUNS).await;
    page.click("#cancel").await;
    page.until("return document.querySelector('#progress-text').textContent === 'cancelled'").await;

    // A picture, and its star, are in both tabs.
    page.until(&format!("return {PICTURES} === 1")).await;
    page.client.switch_to_window(second).await.unwrap();
    page.until(&format!("return {PICTURES} === 1 && document.querySelector('#picture').naturalWidth === 256")).await;
    page.click("#star").await;
    page.client.switch_to_window(first).await.unwrap();
    page.until("return document.querySelectorAll('#history .starred').length === 1").await;
    page.client.refresh().await.unwrap();
    page.until("return document.querySelectorAll('#history .starred').length === 1").await;
    page.click("#only-starred").await;
    assert_eq!(page.script("return document.querySelector('#history li').checkVisibility()").await, true);
    page.click("#star").await;
    assert_eq!(page.script("return document.querySelector('#history li').checkVisibility()").await, false);
}

pub async fn lined(page: &Page) {
    page.fill("#steps", "4").await;
    page.fill("#prompt", "a red boat\n\na blue house\nan orange sun").await;
    page.click("#lines").await;
    assert_eq!(page.find("#paint").await.text().await.unwrap(), "Paint 3");
    page.click("#paint").await;
    // A reload in between loses none.
    page.until("return document.querySelector('#progress-text').textContent.includes('then')").await;
    page.client.refresh().await.unwrap();
    page.until(&format!("return {PICTURES} === 3")).await;
    page.until(READY).await;
    let shown = page.find("#picture").await.prop("alt").await.unwrap().unwrap();
    assert!(shown.ends_with(": an orange sun"), "{shown}");

    // Cancel ends all of them.
    page.fill("#steps", "150").await;
    page.click("#lines").await;
    page.click("#paint").await;
    page.until("return document.querySelector('#progress-text').textContent.includes('then 2 more')").await;
    page.click("#cancel").await;
    page.until(READY).await;
    let states = "const done = arguments[0]; fetch('/api/jobs').then(r => r.json())
        .then(jobs => done(jobs.slice(-3).map(job => job.state)))";
    let states = page.client.execute_async(states, Vec::new()).await.unwrap();
    assert_eq!(states, json!(["cancelled", "cancelled", "cancelled"]));
}

pub async fn saved(page: &Page) {
    page.fill("#steps", "2").await;
    page.fill("#prompt", "a red boat, naïve sky").await;
    page.paint().await;
    // A JPEG and a WebP hold the settings that every program reads.
    for (format, name) in [("jpeg", "jpg"), ("webp", "webp")] {
        page.find("#format").await.select_by_value(format).await.unwrap();
        assert!(page.find("#format-note").await.text().await.unwrap().contains("Only PNG restores drawings"));
        page.script(CATCH).await;
        page.click("#download").await;
        page.until("return window.made !== null").await;
        let file = page.script("return window.made.name").await;
        assert!(file.as_str().unwrap().ends_with(&format!(".{name}")), "{file}");
        let read = "const done = arguments[0], body = window.made.file;
            fetch('/api/recipes', { method: 'POST', headers: { 'content-type': body.type }, body })
            .then(r => r.json()).then(done)";
        let restored = page.client.execute_async(read, Vec::new()).await.unwrap();
        assert_eq!(restored["request"]["prompt"], "a red boat, naïve sky", "{restored}");
        assert_eq!(restored["request"]["steps"], 2);
    }

    // A key gives a star, and a finger takes it away.
    page.script("document.activeElement.blur()").await;
    page.find("body").await.send_keys("s").await.unwrap();
    page.until("return document.querySelectorAll('#history .starred').length === 1").await;
    let star = page.find("#star").await;
    let to = PointerAction::MoveToElement { element: star, duration: None, x: 0.0, y: 0.0 };
    let tap = TouchActions::new("finger".to_owned()).then(to).then(PointerAction::Down { button: 0 });
    page.client.perform_actions(tap.then(PointerAction::Up { button: 0 })).await.unwrap();
    page.until("return document.querySelectorAll('#history .starred').length === 0").await;

    // Pictures without a star make room for new ones.
    let kept = "const done = arguments[0]; import('/gallery.js').then(async ({ Gallery, keyOf }) => {
        const gallery = new Gallery({ added() {}, starred() {}, removed() {}, failed: done });
        const [first] = await gallery.keys(), entry = { ...await gallery.read(first), isStarred: true };
        await gallery.star(entry);
        for (let time = 1; time <= 210; time++) {
            await gallery.keep([{ ...entry, key: keyOf(1e12 + time, 0), isStarred: false }]);
        }
        done([(await gallery.keys()).length, (await gallery.keys(true)).length, (await gallery.keys())[0] === first]);
    })";
    let kept = page.client.execute_async(kept, Vec::new()).await.unwrap();
    assert_eq!(kept, json!([201, 1, true]));

    // A saved prompt takes the place of the prompt, or follows it.
    page.click("#saved summary").await;
    page.click("#save-prompt").await;
    page.fill("#prompt", "a house,").await;
    page.click("#saved-prompts .add").await;
    assert_eq!(page.text_of("#prompt").await, "a house, a red boat, naïve sky");
    page.client.refresh().await.unwrap();
    page.until(READY).await;
    page.click("#saved summary").await;
    page.click("#saved-prompts .use").await;
    assert_eq!(page.text_of("#prompt").await, "a red boat, naïve sky");
    page.screenshot("kept_saved").await;
    page.click("#saved-prompts .remove").await;
    assert_eq!(page.script("return document.querySelectorAll('#saved-prompts li').length").await, 0);

    // A picture lends its colors to the next one, which remembers that.
    let picture = "return !document.querySelector('#palette img').hidden";
    page.click("#use").await;
    page.click("#choose [value='palette']").await;
    page.until(picture).await;
    page.fill("#steps", "2").await;
    page.paint().await;
    page.script("document.querySelector('#palette button').click()").await;
    assert_eq!(page.script(picture).await, false);
    page.click("#restore").await;
    page.until(picture).await;
}

pub async fn removed(page: &Page) {
    page.fill("#steps", "2").await;
    page.fill("#prompt", "a red boat").await;
    page.paint().await;
    page.fill("#prompt", "a blue house").await;
    page.paint().await;
    let shown = async || page.find("#picture").await.prop("alt").await.unwrap().unwrap();
    assert!(shown().await.ends_with(": a blue house"));

    // The next picture takes the place of a removed one, and Undo puts it back.
    page.click("#remove").await;
    page.until(&format!("return {PICTURES} === 1")).await;
    assert!(shown().await.ends_with(": a red boat"));
    page.screenshot("kept_removed").await;
    page.click("#notice-actions button").await;
    page.until(&format!("return {PICTURES} === 2")).await;
    assert!(shown().await.ends_with(": a blue house"));
    page.until("return document.querySelector('#picture').naturalWidth === 256").await;

    // Removed pictures stay away after a reload, though the server still has their jobs.
    page.script("document.activeElement.blur()").await;
    page.find("body").await.send_keys("\u{e017}").await.unwrap();
    page.until(&format!("return {PICTURES} === 1")).await;
    page.client.refresh().await.unwrap();
    page.until(&format!("return {PICTURES} === 1")).await;
    page.until("return document.querySelector('#picture').alt.endsWith(': a red boat')").await;
    let later = format!("const done = arguments[0]; setTimeout(() => done({PICTURES}), 500)");
    assert_eq!(page.client.execute_async(&later, Vec::new()).await.unwrap(), 1);
    page.click("#remove").await;
    page.until("return document.querySelector('#empty').checkVisibility()").await;
    assert_eq!(page.script("return document.querySelector('#past').checkVisibility()").await, false);
    page.client.refresh().await.unwrap();
    page.until(READY).await;
    assert_eq!(page.client.execute_async(&later, Vec::new()).await.unwrap(), 0);
}

/// A studio that runs until the sender is dropped.
async fn start(
    source: Source,
    address: SocketAddr,
    folder: &Path,
) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let options = Options { address, outputs: Some(folder.into()), ..Options::default() };
    std::fs::write(folder.join("ink.safetensors"), "its name is enough").unwrap();
    let studio =
        Studio::bind(Pipeline::builder().source(source).build().unwrap().lora_folder(folder), options).await.unwrap();
    let (address, (end, ended)) = (studio.address(), oneshot::channel());
    let served = tokio::spawn(studio.serve(async {
        let _ = ended.await;
    }));
    (address, end, served)
}

pub fn restarted() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let (address, end, served) = start(Source::embedded(), ([127, 0, 0, 1], 0).into(), folder.path()).await;
        let page = Page::open(&format!("http://{address}/")).await;
        page.fill("#prompt", "1girl, #ffd700 eyes, hair").await;
        page.fill("#seed", "7").await;
        page.fill("#steps", "14").await;
        page.paint().await;
        let report = "return document.querySelector('#report [data-label=\"eyes\"] .delta')?.textContent";
        let difference = page.script(report).await;
        page.click("#layer-strokes").await;
        page.draw((0.3, 0.5), (0.7, 0.5)).await;
        page.fill("#steps", "150").await;
        page.click("#paint").await;
        page.until(RUNS).await;
        drop(end);
        served.await.unwrap();

        // The page notices, and offers to paint again what was not finished.
        let (_, end, served) = start(Source::embedded_fast(), address, folder.path()).await;
        page.until("return document.querySelector('#notice-text').textContent.startsWith('The server was restarted')")
            .await;
        page.until(READY).await;
        page.screenshot("kept_restarted").await;
        page.click("#notice-actions button").await;
        page.until(RUNS).await;
        page.click("#cancel").await;
        page.until(READY).await;

        // The browser has the picture and the drawing.
        page.client.refresh().await.unwrap();
        page.until(&format!("return {PICTURES} === 1 && document.querySelector('#picture').naturalWidth === 256"))
            .await;
        assert_eq!(page.script(report).await, difference);
        page.until(
            "return document.querySelector('#layer-strokes') && !document.querySelector('#clear-layer').disabled",
        )
        .await;

        // A browser that has kept nothing has it from the folder, with its report.
        page.client.goto(&format!("http://{address}/api/health")).await.unwrap();
        let forget = "const done = arguments[0]; sessionStorage.clear();
            indexedDB.deleteDatabase('impasto-studio').onsuccess = () => done(true)";
        page.client.execute_async(forget, Vec::new()).await.unwrap();
        page.client.goto(&format!("http://{address}/")).await.unwrap();
        page.until(&format!("return {PICTURES} === 1 && document.querySelector('#picture').naturalWidth === 256"))
            .await;
        assert_eq!(page.script(report).await, difference);
        assert_eq!(page.script("return document.querySelector('#error').textContent").await, "");
        // Older pictures of the folder come on demand.
        let outputs = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let png = outputs.into_iter().find(|path| path.extension().is_some_and(|name| name == "png")).unwrap();
        for number in 0..45 {
            std::fs::copy(&png, folder.path().join(format!("20200101-000000-{number:03}-0-7.png"))).unwrap();
        }
        page.client.refresh().await.unwrap();
        page.until(&format!("return {PICTURES} === 40 && !document.querySelector('#older').hidden")).await;
        page.click("#older").await;
        page.until(&format!("return {PICTURES} === 46 && document.querySelector('#older').hidden")).await;
        page.click("#loras summary").await;
        page.click("#lora-names .chip").await;
        assert_eq!(page.text_of("#prompt").await, "<lora:ink:1>");
        page.close().await;
        drop(end);
        served.await.unwrap();
    });
}
