//! What a person finds again: after a reload, in a second tab, and after the server was restarted.

use crate::{PROMPT, Page};
use impasto::Pipeline;
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
/// Script that returns whether the page lets a person paint.
const READY: &str = "return !document.querySelector('#paint').disabled";

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

/// A studio that runs until the sender is dropped.
async fn start(address: SocketAddr, folder: &Path) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let options = Options { address, outputs: Some(folder.into()), ..Options::default() };
    let studio = Studio::bind(Pipeline::builder().build().unwrap(), options).await.unwrap();
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
        let (address, end, served) = start(([127, 0, 0, 1], 0).into(), folder.path()).await;
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
        let (_, end, served) = start(address, folder.path()).await;
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
        page.script("indexedDB.deleteDatabase('impasto-studio'); sessionStorage.clear()").await;
        page.client.goto("about:blank").await.unwrap();
        page.client.goto(&format!("http://{address}/")).await.unwrap();
        page.until(&format!("return {PICTURES} === 1 && document.querySelector('#picture').naturalWidth === 256"))
            .await;
        assert_eq!(page.script(report).await, difference);
        let log = page.script("return document.querySelector('#error').textContent").await;
        assert_eq!(log, "");
        page.close().await;
        drop(end);
        served.await.unwrap();
    });
}
