//! The page in a real browser: headless Chromium, driven through ChromeDriver.
//!
//! `sudo apt-get install chromium chromium-driver` installs both; without them the tests count as ignored. With
//! `IMPASTO_SCREENSHOTS=FOLDER` the tests leave pictures of the page in a folder.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod artist;
mod chosen;
#[path = "../all/engine.rs"]
mod engine;
mod followed;
mod kept;

use fantoccini::actions::{InputSource, MOUSE_BUTTON_LEFT, MouseActions, PointerAction};
use fantoccini::elements::Element;
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use impasto::{Pipeline, Raster};
use impasto_studio::{Engine, Options, Studio};
use libtest_mimic::{Arguments, Trial};
use serde_json::json;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use url::{ParseError, Url};

/// The prompt of the tests.
const PROMPT: &str = "1girl, hair bow, eyes, hair, shirt, background";
/// Longest time that a test waits for something.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let mut arguments = Arguments::from_args();
    // Two browsers beside two studios would wait for each other on two cores.
    arguments.test_threads = Some(1);
    let found = |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    let missing = !found("chromium") || !found("chromedriver");
    if missing {
        eprintln!("Chromium is missing, so its tests are ignored: sudo apt-get install chromium chromium-driver");
    }
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(missing)
    };
    let trials = vec![
        trial("picture_is_painted_restored_and_cancelled", || run(painted)),
        trial("strokes_color_what_they_lie_on", || run(stroked)),
        trial("words_lassos_and_details_are_repainted", || run(repainted)),
        trial("further_settings_are_those_of_the_api", || run(adjusted)),
        trial("model_is_chosen_and_returns_with_its_picture", || run_with(engine::with_choice(), chosen::chosen)),
        trial("unknown_model_has_no_words_and_no_examples", || run_with(chosen::unknown(), chosen::plain)),
        trial("pictures_are_followed_and_drawn_like", || run_with(engine::with_networks(), followed::followed)),
        trial("live_view_follows_the_prompt", || run(live)),
        trial("reload_keeps_pictures_and_the_run", || run(reloaded)),
        trial("drawing_shows_what_it_lies_on_and_keeps_its_seed", || run(artist::drawn)),
        trial("keyboard_draws_on_the_canvas", || run(artist::keyed)),
        trial("canvas_is_zoomed_and_moved", || run(artist::zoomed)),
        trial("wrong_number_is_named_and_not_rounded", || run(artist::numbered)),
        trial("first_screen_paints_with_one_click", || run(artist::invited)),
        trial("phone_shows_the_prompt_first_and_two_tabs", || run(artist::phoned)),
        trial("closed_page_ends_its_run", || run(closed)),
        trial("second_tab_shows_the_run_and_leaves_it_alone", || run(kept::watched)),
        trial("restarted_server_finds_everything_again", kept::restarted),
        trial("removed_pictures_stay_away", || run(kept::removed)),
        trial("prompts_are_saved_and_files_have_settings", || run(kept::saved)),
        trial("lines_are_painted_one_after_the_other", || run(kept::lined)),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

/// ChromeDriver's command that returns the lines that the browser has logged.
#[derive(Debug)]
struct BrowserLog;

impl WebDriverCompatibleCommand for BrowserLog {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}

/// A studio, ChromeDriver, and a page.
struct Page {
    client: Client,
    driver: Driver,
    profile: TempDir,
}

/// A running ChromeDriver, which ends with its browser when a test ends, also when the test fails.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        // A ChromeDriver that is asked to end closes its browser; one that is killed leaves it running.
        let asked = Command::new("kill").arg(self.0.id().to_string()).status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

/// Runs a test on a page of its own.
fn run(test: impl AsyncFn(&Page)) {
    run_with(Pipeline::builder().build().unwrap().into(), test);
}

/// Runs a test on a page of its own, with an engine.
fn run_with(engine: Engine, test: impl AsyncFn(&Page)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let options = Options {
            address: ([127, 0, 0, 1], 0).into(),
            abandoned: Some(Duration::from_secs(5)),
            ..Options::default()
        };
        let studio = Studio::bind(engine, options).await.unwrap();
        let url = format!("http://{}/", studio.address());
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(studio.serve(async {
            let _ = ended.await;
        }));
        let page = Page::open(&url).await;
        test(&page).await;
        page.no_errors().await;
        page.close().await;
        drop(end);
        served.await.unwrap();
    });
}

impl Page {
    async fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(Driver)
            .unwrap();
        let mut arguments: Vec<String> = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1400,1000",
        ]
        .map(String::from)
        .into();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let address = format!("http://127.0.0.1:{port}");
        let begun = Instant::now();
        let client = loop {
            let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
            builder.capabilities(capabilities.as_object().unwrap().clone());
            match builder.connect(&address).await {
                Ok(client) => break client,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "ChromeDriver: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        client.goto(url).await.unwrap();
        let page = Self { client, driver, profile };
        page.until("return !document.querySelector('#paint').disabled").await;
        page
    }

    async fn close(self) {
        self.client.close().await.unwrap();
        drop(self.driver);
        drop(self.profile);
    }

    async fn find(&self, selector: &str) -> Element {
        self.client.find(Locator::Css(selector)).await.unwrap_or_else(|error| panic!("{selector}: {error}"))
    }

    async fn click(&self, selector: &str) {
        self.find(selector).await.click().await.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Replaces the value of a field, as typing does.
    async fn fill(&self, selector: &str, text: &str) {
        let field = self.find(selector).await;
        field.click().await.unwrap();
        field.send_keys(&format!("{}a{}", char::from(Key::Control), char::from(Key::Null))).await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    async fn script(&self, script: &str) -> serde_json::Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until a script returns true.
    async fn until(&self, script: &str) {
        let begun = Instant::now();
        while self.script(script).await != true {
            let error = self.script("return document.querySelector('#error')?.textContent").await;
            assert!(begun.elapsed() < PATIENCE, "{script}: the page says {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Presses *Paint* and waits for the picture.
    async fn paint(&self) {
        let before = self.script("return document.querySelectorAll('#history [data-seed]').length").await;
        self.click("#paint").await;
        self.until(&format!("return document.querySelectorAll('#history [data-seed]').length > {before}")).await;
    }

    async fn text_of(&self, selector: &str) -> String {
        self.find(selector).await.prop("value").await.unwrap().unwrap_or_default()
    }

    /// Saves a picture of the page, if the environment asks for it.
    async fn screenshot(&self, name: &str) {
        if let Some(folder) = std::env::var_os("IMPASTO_SCREENSHOTS") {
            let png = self.client.screenshot().await.unwrap();
            std::fs::write(Path::new(&folder).join(format!("{name}.png")), png).unwrap();
        }
    }

    /// Checks that the browser has logged no error, such as a script's or one of the content policy.
    async fn no_errors(&self) {
        let log = self.client.issue_cmd(BrowserLog).await.unwrap();
        let errors: Vec<_> = log.as_array().unwrap().iter().filter(|entry| entry["level"] == "SEVERE").collect();
        assert!(errors.is_empty(), "{errors:?}");
    }

    /// Draws a line on the canvas between two points, as shares of its width and height.
    async fn draw(&self, from: (f64, f64), to: (f64, f64)) {
        let middle = (f64::midpoint(from.0, to.0), f64::midpoint(from.1, to.1));
        self.draw_along(&[from, middle, to]).await;
    }

    /// Draws along points on the canvas, as shares of its width and height.
    async fn draw_along(&self, points: &[(f64, f64)]) {
        let (_, _, width, height) = self.find("#canvas").await.rectangle().await.unwrap();
        let canvas = self.find("#canvas").await;
        let at = |&(x, y): &(f64, f64)| PointerAction::MoveToElement {
            element: canvas.clone(),
            duration: Some(Duration::from_millis(50)),
            x: (x - 0.5) * width,
            y: (y - 0.5) * height,
        };
        let [first, rest @ ..] = points else { panic!("a line has points") };
        let actions = MouseActions::new("mouse".to_owned()).then(at(first));
        let actions = actions.then(PointerAction::Down { button: MOUSE_BUTTON_LEFT });
        let actions = rest.iter().fold(actions, |actions, point| actions.then(at(point)));
        self.client.perform_actions(actions.then(PointerAction::Up { button: MOUSE_BUTTON_LEFT })).await.unwrap();
    }

    /// Returns the picture of a job.
    async fn picture(&self, job: u64) -> Raster {
        let script = "const done = arguments[1]; fetch(`/api/jobs/${arguments[0]}/pictures/0`)
            .then(r => r.arrayBuffer()).then(b => done(Array.from(new Uint8Array(b))));";
        let bytes = self.client.execute_async(script, vec![job.into()]).await.unwrap();
        let bytes: Vec<u8> = serde_json::from_value(bytes).unwrap();
        let file = self.profile.path().join("fetched.png");
        std::fs::write(&file, bytes).unwrap();
        Raster::open(&file).unwrap()
    }
}

async fn painted(page: &Page) {
    let shown = page.script("return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0").await;
    println!("first paint of the page after {shown} ms");
    let follows = "return document.querySelector('#followed').checkVisibility()";
    assert_eq!(page.script(follows).await, false, "this studio has no network to name");
    page.fill("#prompt", PROMPT).await;
    page.fill("#seed", "7").await;
    page.click(".word[data-word='eyes']").await;
    page.fill("#color-hex", "#ffd700").await;
    page.click("#color-apply").await;
    assert!(page.text_of("#prompt").await.contains("#ffd700 eyes"));
    page.paint().await;
    let differences =
        "return [...document.querySelectorAll('#report [data-label=\"eyes\"]')].map(e => Number(e.dataset.deltaE))";
    let difference = page.script(differences).await[0].as_f64().unwrap();
    assert!(difference <= 3.0, "the page says ΔE {difference}");
    page.until("return document.querySelector('#picture').naturalWidth === 256").await;
    page.screenshot("studio").await;

    // The report lays the mask of the color over the picture, and its figures are data.
    let mask = "document.querySelector('#map').dataset.of ?? null";
    assert_eq!(page.script(&format!("return {mask}")).await, json!(null));
    page.click("#report .mask").await;
    assert_eq!(page.script(&format!("return {mask}")).await, "eyes");
    page.click("#prompt").await;
    assert_eq!(page.script(&format!("return {mask}")).await, "eyes", "a click lets the mask stay");
    page.until("return getComputedStyle(document.querySelector('#map')).opacity === '0.88'").await;
    page.screenshot("studio_mask").await;
    // A color tells what it means: its difference in words, and what changed beside it.
    let told = page.find("#report [data-label='eyes'] .told").await.text().await.unwrap();
    for words in
        ["no visible difference", "asked #ffd700, painted #", "of the picture, and", "Nothing beside it changed"]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(page.find("#delta-e").await.text().await.unwrap().starts_with("ΔE tells how different"));
    let steps = "return document.querySelectorAll('#report [data-label=\"eyes\"] .strip i').length";
    assert!(page.script(steps).await.as_u64().unwrap() > 1, "the colors of the steps");
    page.script("document.querySelector('#about').scrollIntoView()").await;
    page.screenshot("studio_report").await;
    let drawn = "return [...document.querySelectorAll('#report .mask img')].every(image => image.naturalWidth > 0)";
    page.until(drawn).await;
    let hover = |event: &str| {
        let word = "document.querySelector(`.word[data-word='hair']`)";
        format!("{word}.dispatchEvent(new PointerEvent('{event}')); return {mask}")
    };
    assert_eq!(page.script(&hover("pointerenter")).await, "hair");
    assert_eq!(page.script(&hover("pointerleave")).await, "eyes", "the mask stays after the map of a word");
    page.click("#report .mask").await;
    page.click("#prompt").await;
    page.until(&format!("return {mask} === null")).await;
    let summaries = "return [...document.querySelectorAll('#figures > details:not([open]) > summary')]";
    assert_eq!(page.script(&format!("{summaries}.map(one => one.textContent)")).await, json!(["data"]));

    // The finished PNG restores everything.
    let png = page
        .client
        .execute_async(
            "const done = arguments[0]; fetch('/api/jobs/1/pictures/0').then(r => r.arrayBuffer())
             .then(b => done(Array.from(new Uint8Array(b))));",
            Vec::new(),
        )
        .await
        .unwrap();
    let bytes: Vec<u8> = serde_json::from_value(png).unwrap();
    let file = page.profile.path().join("painted.png");
    std::fs::write(&file, bytes).unwrap();
    page.fill("#prompt", "a boat").await;
    page.find("#open").await.send_keys(file.to_str().unwrap()).await.unwrap();
    page.until("return document.querySelector('#prompt').value.includes('#ffd700 eyes')").await;
    assert_eq!(page.text_of("#seed").await, "7");

    // A long run is cancelled.
    page.fill("#steps", "150").await;
    page.click("#paint").await;
    page.until("return document.querySelector('#progress').value > 0").await;
    page.click("#cancel").await;
    page.until("return !document.querySelector('#paint').disabled").await;

    // A phone.
    page.client.set_window_size(390, 844).await.unwrap();
    page.until("return document.documentElement.scrollWidth <= window.innerWidth").await;
}

async fn stroked(page: &Page) {
    page.fill("#prompt", PROMPT).await;
    page.fill("#seed", "7").await;
    page.fill("#steps", "14").await;
    page.click("#layer-strokes").await;
    page.script("const c = document.querySelector('#brush-color'); c.value = '#008080'; c.dispatchEvent(new Event('input', {bubbles: true})); c.dispatchEvent(new Event('change', {bubbles: true}));").await;
    page.draw((0.35, 0.24), (0.65, 0.24)).await;
    page.paint().await;
    let colors = page.script("return [...document.querySelectorAll('#report [data-label]')].map(e => [e.dataset.label, Number(e.dataset.deltaE)])").await;
    let [label, difference] = [&colors[0][0], &colors[0][1]];
    assert!(label.as_str().unwrap().contains("#008080"), "{colors}");
    assert!(difference.as_f64().unwrap() <= 3.0, "{colors}");
    assert_eq!(colors.as_array().unwrap().len(), 1, "one stroke is one color: {colors}");
    page.screenshot("studio_strokes").await;
}

async fn repainted(page: &Page) {
    page.fill("#prompt", "1girl, eyes, red hair, shirt, background").await;
    page.fill("#seed", "7").await;
    page.fill("#steps", "14").await;
    page.paint().await;
    // The thing of a word is repainted in the picture that is shown.
    page.click(".word[data-word='hair']").await;
    page.click("#color-repaint").await;
    page.until("return document.querySelector('#repaints b').textContent === 'hair'").await;
    page.fill("#prompt", "1girl, eyes, #1e5aff hair, shirt, background").await;
    page.paint().await;
    page.until("return document.querySelector('#seam').textContent.startsWith('Seam of the mask: ΔE')").await;
    page.screenshot("studio_repaint").await;
    let [first, second] = [page.picture(1).await, page.picture(2).await];
    let lowest = |picture: &Raster| picture.crop(250..256, 110..150).unwrap();
    assert!(first != second && lowest(&first) == lowest(&second), "the shirt keeps its pixels");

    // A lasso fills the mask, whose edge is soft.
    page.click("#repaints button").await;
    page.click("#layer-mask").await;
    page.find("#prompt").await.send_keys(&char::from(Key::Tab).to_string()).await.unwrap();
    page.click("#tool-lasso").await;
    page.draw_along(&[(0.1, 0.1), (0.5, 0.1), (0.5, 0.4), (0.1, 0.4)]).await;
    let soften = "const s = document.querySelector('#soften'); s.value = 12;
        ['input', 'change'].forEach(e => s.dispatchEvent(new Event(e)));";
    page.script(soften).await;
    page.paint().await;
    page.screenshot("studio_lasso").await;
    let third = page.picture(3).await;
    let right = |picture: &Raster| picture.crop(0..256, 160..256).unwrap();
    assert!(third != first && right(&third) == right(&first), "the picture outside of the lasso keeps its pixels");

    // Details, a second run and seamless edges.
    page.click("#start button").await;
    page.fill("#prompt", "red boat, blue sky").await;
    page.click("#larger summary").await;
    page.script("document.querySelector('#hires').value = '1.5'; document.querySelector('#seamless').value = 'both'")
        .await;
    page.fill("#details", "boat").await;
    page.paint().await;
    page.until("return document.querySelector('#picture').naturalWidth === 384").await;
    page.fill("#details", "").await;
    page.click("#restore").await;
    page.until("return document.querySelector('#details').value === 'boat'").await;
    assert_eq!(page.text_of("#hires").await, "1.5");
}

async fn adjusted(page: &Page) {
    page.fill("#prompt", "red boat, blue sky").await;
    page.fill("#seed", "7").await;
    page.fill("#steps", "4").await;
    page.paint().await;
    page.click("#more summary").await;
    let names =
        page.script("return [...document.querySelectorAll('#more-fields label')].map(l => l.textContent)").await;
    for name in ["Second prompt", "Spacing", "Guidance rescale", "Best of", "Match tone", "Batching"] {
        assert!(names.as_array().unwrap().contains(&name.into()), "{name}: {names}");
    }
    assert!(!names.to_string().contains("Line art"), "pictures have places of their own: {names}");
    page.script("document.querySelector('#more-spacing').value = 'Karras'").await;
    page.fill("#more-palette", "navy:3, gold").await;
    page.fill("#more-guiders", "pag:2 free-u").await;
    page.fill("#more-guidance_rescale", "0.7").await;
    page.screenshot("studio_more").await;
    page.paint().await;
    assert!(page.picture(1).await != page.picture(2).await);
    page.script("document.querySelector('#more-spacing').value = ''").await;
    page.fill("#more-palette", " ").await;
    page.fill("#more-guiders", "").await;
    page.click("#restore").await;
    page.until("return document.querySelector('#more-spacing').value === 'Karras'").await;
    assert_eq!(page.text_of("#more-guidance_rescale").await, "0.7");
    assert_eq!(page.text_of("#more-palette").await, "#000080:3, #ffd700");
    assert_eq!(page.text_of("#more-guiders").await, "pag:2 free-u");
    page.fill("#more-guidance_rescale", "7").await;
    page.click("#paint").await;
    page.until("return document.querySelector('#error').textContent.includes('Guidance rescale is 7')").await;
}

async fn live(page: &Page) {
    page.fill("#prompt", PROMPT).await;
    page.click("#live").await;
    assert_eq!(page.find("#live-steps").await.prop("value").await.unwrap().unwrap(), "4");
    page.until("return (document.querySelector('#picture').naturalWidth ?? 0) === 256").await;
    let before = page.find("#picture").await.prop("src").await.unwrap().unwrap();
    page.find("#prompt").await.send_keys(", hat").await.unwrap();
    page.until(&format!("return document.querySelector('#picture').src !== {before:?}")).await;
}

async fn reloaded(page: &Page) {
    let pictures = "return document.querySelectorAll('#history [data-seed]').length";
    page.fill("#prompt", "1girl, #ffd700 eyes, hair").await;
    page.fill("#seed", "7").await;
    page.fill("#steps", "14").await;
    page.paint().await;
    let report = "return document.querySelector('#report [data-label=\"eyes\"] .delta')?.textContent";
    let difference = page.script(report).await;
    assert!(difference.as_str().unwrap().starts_with("ΔE"), "{difference}");

    // After a run: the picture, its report and its settings are there again.
    page.client.refresh().await.unwrap();
    page.until(&format!("{pictures} === 1")).await;
    page.until("return document.querySelector('#picture').naturalWidth === 256").await;
    assert_eq!(page.script(report).await, difference);
    page.fill("#prompt", "a boat").await;
    page.click("#restore").await;
    page.until("return document.querySelector('#prompt').value.includes('#ffd700 eyes')").await;

    // During a run: its progress and its picture come to the new page.
    page.fill("#prompt", PROMPT).await;
    page.fill("#steps", "150").await;
    page.click("#paint").await;
    let runs = "return document.querySelector('#progress').value > 0";
    page.until(runs).await;
    page.client.refresh().await.unwrap();
    page.until(runs).await;
    assert_eq!(page.script("return document.querySelector('#paint').disabled").await, true);
    page.until(&format!("{pictures} === 2")).await;
    page.until("return !document.querySelector('#paint').disabled").await;
    let shown = page.find("#picture").await.prop("alt").await.unwrap().unwrap();
    assert!(shown.ends_with(PROMPT), "{shown}");

    // The new page can also end the run, and another page in between changes nothing.
    page.click("#paint").await;
    page.until(runs).await;
    page.client.goto("about:blank").await.unwrap();
    page.client.back().await.unwrap();
    page.until(runs).await;
    page.click("#cancel").await;
    page.until("return document.querySelector('#progress-text').textContent === 'cancelled'").await;
    page.until(&format!("{pictures} === 2")).await;
}

async fn closed(page: &Page) {
    page.fill("#prompt", PROMPT).await;
    page.fill("#steps", "150").await;
    page.find("#images").await.select_by_value("4").await.unwrap();
    page.click("#paint").await;
    page.until("return document.querySelector('#progress').value > 0").await;
    let url = page.client.current_url().await.unwrap();
    page.client.goto("about:blank").await.unwrap();
    let job = url.join("api/jobs/1").unwrap().to_string();
    let state = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        loop {
            let job: serde_json::Value =
                serde_json::from_str(&ureq::get(&job).call().unwrap().into_string().unwrap()).unwrap();
            if job["state"] != "running" || begun.elapsed() > PATIENCE {
                break job["state"].clone();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert_eq!(state.await.unwrap(), "cancelled");
}
