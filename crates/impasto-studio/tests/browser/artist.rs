//! The work of an artist on the page: seeing what to paint on, drawing by mouse, touch and keyboard, and beginning.

use crate::{PROMPT, Page};
use fantoccini::actions::{InputSource, MOUSE_BUTTON_LEFT, MouseActions, PointerAction, TouchActions};
use fantoccini::key::Key;
use serde_json::{Value, json};
use std::time::Duration;

/// Script that returns whether the page lets a person paint.
pub const READY: &str = "return !document.querySelector('#paint').disabled";
/// Script that returns the color of the canvas's middle.
const MIDDLE: &str = "(() => { const c = document.querySelector('#canvas');
    return [...c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data].slice(0, 3); })()";
/// Script that returns the colors around the middle of the picture, as `#rrggbb`.
const AROUND: &str = "(() => { const c = document.createElement('canvas'), p = document.querySelector('#picture');
    Object.assign(c, { width: p.naturalWidth, height: p.naturalHeight });
    const x = c.getContext('2d'); x.drawImage(p, 0, 0);
    const d = x.getImageData(c.width / 2 - 2, c.height / 2 - 2, 4, 4).data, all = [];
    for (let i = 0; i < d.length; i += 4)
        all.push('#' + [...d.slice(i, i + 3)].map(v => v.toString(16).padStart(2, '0')).join(''));
    return all; })()";

/// Sets a slider, as dragging does.
async fn slide(page: &Page, selector: &str, value: u32) {
    let events = "['input', 'change'].forEach(e => s.dispatchEvent(new Event(e, { bubbles: true })))";
    page.script(&format!("const s = document.querySelector('{selector}'); s.value = {value}; {events}")).await;
}

/// Waits until the middle of the canvas is white or, if `white` is false, has another color.
async fn until_white(page: &Page, white: bool) {
    page.until(&format!("return ({MIDDLE}.join() === '255,255,255') === {white}")).await;
}

async fn attribute(page: &Page, selector: &str, name: &str) -> String {
    page.find(selector).await.attr(name).await.unwrap().unwrap_or_default()
}

async fn paint_quickly(page: &Page) {
    page.fill("#prompt", PROMPT).await;
    page.fill("#steps", "4").await;
    page.paint().await;
}

/// Returns the seed of the newest picture.
async fn newest_seed(page: &Page) -> String {
    attribute(page, "#history [data-seed]", "data-seed").await
}

/// Makes the inside of the window exactly this large.
pub async fn resize(page: &Page, width: u32, height: u32) {
    page.client.set_window_size(width, height).await.unwrap();
    let inside = page.script("return [innerWidth, innerHeight]").await;
    let missing = |index: usize, wanted: u32| 2 * wanted - u32::try_from(inside[index].as_u64().unwrap()).unwrap();
    page.client.set_window_size(missing(0, width), missing(1, height)).await.unwrap();
    page.until(&format!("return innerWidth === {width} && innerHeight === {height}")).await;
}

pub async fn drawn(page: &Page) {
    until_white(page, true).await;
    paint_quickly(page).await;
    let seed = newest_seed(page).await;
    assert_eq!(attribute(page, "#lock", "aria-pressed").await, "false");

    // The last picture lies below the drawing, and a switch takes it away.
    until_white(page, false).await;
    page.click("#show-last").await;
    until_white(page, true).await;
    page.click("#show-last").await;
    until_white(page, false).await;

    // The pipette picks the picture's own color, from the dimmed one too.
    for place in ["#canvas", "#picture"] {
        page.click("#tool-pipette").await;
        page.click(place).await;
        let color = page.text_of("#brush-color").await;
        let around = page.script(&format!("return {AROUND}")).await;
        assert!(around.as_array().unwrap().contains(&json!(color)), "{place}: {color} is not in {around}");
        assert_eq!(attribute(page, "#tool-brush", "aria-pressed").await, "true");
        assert_eq!(attribute(page, "#layer-strokes", "aria-pressed").await, "true");
    }

    // A stroke of half opacity that crosses itself is no more opaque there. It keeps the seed, and the page says so.
    page.click("#show-last").await;
    page.script(
        "const c = document.querySelector('#brush-color'); c.value = '#ff0000'; c.dispatchEvent(new Event('input'))",
    )
    .await;
    slide(page, "#brush-opacity", 50).await;
    let crossing = [(0.3, 0.5), (0.7, 0.5), (0.3, 0.5), (0.5, 0.3), (0.5, 0.7)];
    page.draw_along(&crossing).await;
    until_white(page, false).await;
    let pixel = page.script(&format!("return {MIDDLE}")).await;
    let [red, green, blue] = [0, 1, 2].map(|channel| pixel[channel].as_u64().unwrap());
    assert!(red == 255 && (126..=129).contains(&green) && green == blue, "{pixel}");
    assert_eq!(page.text_of("#seed").await, seed);
    assert_eq!(attribute(page, "#lock", "aria-pressed").await, "true");
    let note = page.find("#seed-note").await.text().await.unwrap();
    assert!(note.starts_with("Kept since your first stroke"), "{note}");
    page.screenshot("artist_drawing").await;

    page.click("#undo").await;
    until_white(page, true).await;
    page.click("#redo").await;
    until_white(page, false).await;
    page.paint().await;
    assert_eq!(newest_seed(page).await, seed, "the next picture is of the same scene");

    // The user's own choice stays.
    page.click("#lock").await;
    assert_eq!(page.find("#seed-note").await.text().await.unwrap(), "");
    page.draw((0.2, 0.8), (0.8, 0.8)).await;
    assert_eq!(attribute(page, "#lock", "aria-pressed").await, "false");
    page.paint().await;
    assert!(newest_seed(page).await != seed);

    // A reload keeps the reason, and restoring a picture gives one.
    page.click("#restore").await;
    page.until("return document.querySelector('#seed-note').textContent.startsWith('Kept with these settings')").await;
    page.click("#notice-actions button").await;
    page.until("return document.querySelector('#lock').ariaPressed === 'false'").await;
}

pub async fn keyed(page: &Page) {
    // The pen is down from one press of Enter to the next.
    let canvas = page.find("#canvas").await;
    let keys = |keys: &[Key]| keys.iter().map(|&key| char::from(key)).collect::<String>();
    let line = [Key::Enter, Key::Right, Key::Right, Key::Right, Key::Right, Key::Enter];
    page.script("document.querySelector('#clear-layer').focus()").await;
    canvas.send_keys(&keys(&line)).await.unwrap();
    until_white(page, false).await;
    page.until("return document.querySelector('#canvas-status').textContent === '144, 128'").await;
    assert_eq!(page.script("return document.activeElement.id").await, "canvas");
    assert_eq!(page.script("return document.querySelector('#cursor').hidden").await, false);
    let outline = "return getComputedStyle(document.querySelector('#canvas-sheet')).outlineStyle";
    assert_eq!(page.script(outline).await, "solid", "the focus is seen");
    page.screenshot("artist_keyboard").await;
    page.click("#undo").await;
    until_white(page, true).await;
    assert_eq!(attribute(page, "#undo", "disabled").await, "true", "the line is one change");

    // Space makes a dot, and long steps leave the middle.
    canvas.send_keys(&keys(&[Key::Left, Key::Left, Key::Left, Key::Left])).await.unwrap();
    canvas.send_keys(" ").await.unwrap();
    until_white(page, false).await;
    page.until("return !document.querySelector('#undo').disabled").await;
    canvas.send_keys(&keys(&[Key::Up])).await.unwrap();
    page.until("return document.querySelector('#canvas-status').textContent === '128, 124'").await;
    let described = attribute(page, "#canvas", "aria-describedby").await;
    assert!(described.contains("canvas-keys"), "{described}");
}

pub async fn zoomed(page: &Page) {
    let zoom = "document.querySelector('#zoom-fit').textContent";
    page.click("#zoom-in").await;
    page.until(&format!("return {zoom} === '150 %'")).await;
    // The middle stays in the middle, and a stroke lands under the pointer.
    let ratio = "const width = s => document.querySelector(s).getBoundingClientRect().width;
        return width('#canvas') / width('#canvas-sheet')";
    let ratio = page.script(ratio).await.as_f64().unwrap();
    assert!((ratio - 1.5).abs() < 0.01, "the canvas is {ratio} times as wide as its sheet");
    page.draw((0.5, 0.4), (0.5, 0.6)).await;
    until_white(page, false).await;
    page.screenshot("artist_zoom").await;
    page.script("document.activeElement.blur()").await;
    page.find("body").await.send_keys("0").await.unwrap();
    page.until(&format!("return {zoom} === '100 %'")).await;
    page.find("body").await.send_keys("+").await.unwrap();
    page.until(&format!("return {zoom} === '150 %'")).await;
    page.find("body").await.send_keys("-").await.unwrap();
    page.until(&format!("return {zoom} === '100 %'")).await;

    // The wheel with Ctrl zooms at the pointer, and without it scrolls the page.
    let wheel = |ctrl: bool| {
        let event = format!("deltaY: -300, ctrlKey: {ctrl}, cancelable: true, bubbles: true, clientX: x, clientY: y");
        format!(
            "const s = document.querySelector('#canvas-sheet'), r = s.getBoundingClientRect();
            const x = r.x + r.width / 2, y = r.y + r.height / 2;
            return s.dispatchEvent(new WheelEvent('wheel', {{ {event} }}))"
        )
    };
    assert_eq!(page.script(&wheel(false)).await, true);
    assert_eq!(page.script(&wheel(true)).await, false);
    page.until(&format!("return {zoom} === '272 %'")).await;

    // The hand moves the canvas and draws nothing.
    let sheet = page.find("#canvas-sheet").await;
    let to = |x: f64, time: u64| PointerAction::MoveToElement {
        element: sheet.clone(),
        duration: Some(Duration::from_millis(time)),
        x,
        y: 0.0,
    };
    page.click("#tool-hand").await;
    page.click("#undo").await;
    let left = "return document.querySelector('#canvas').getBoundingClientRect().left";
    let before = page.script(left).await.as_f64().unwrap();
    let drag = MouseActions::new("mouse".to_owned()).then(to(0.0, 0));
    let drag = drag.then(PointerAction::Down { button: MOUSE_BUTTON_LEFT }).then(to(50.0, 50));
    page.client.perform_actions(drag.then(PointerAction::Up { button: MOUSE_BUTTON_LEFT })).await.unwrap();
    let moved = page.script(left).await.as_f64().unwrap() - before;
    assert!((moved - 50.0).abs() < 1.0, "the canvas follows the hand by {moved}");
    let is_unchanged = "return document.querySelector('#undo').disabled";
    assert_eq!(page.script(is_unchanged).await, true);

    // Two fingers zoom, and take back what the first one has begun to draw.
    page.click("#zoom-fit").await;
    page.click("#tool-brush").await;
    let finger = |name: &str, first: f64, last: f64| {
        let touch = TouchActions::new(name.to_owned()).then(to(first, 0)).then(PointerAction::Down { button: 0 });
        touch.then(to(last, 100)).then(PointerAction::Up { button: 0 })
    };
    let pinch = vec![finger("first", -40.0, -120.0), finger("second", 40.0, 120.0)];
    page.client.perform_actions(pinch).await.unwrap();
    page.until(&format!("return parseInt({zoom}) > 200")).await;
    assert_eq!(page.script(is_unchanged).await, true, "a pinch draws nothing");
    page.click("#zoom-fit").await;
    page.client.perform_actions(finger("first", -40.0, 40.0)).await.unwrap();
    page.until("return !document.querySelector('#undo').disabled").await;
    until_white(page, false).await;
}

pub async fn numbered(page: &Page) {
    let problem = |field: &str| format!("return document.querySelector('#{field}-problem').textContent");
    page.fill("#prompt", PROMPT).await;
    page.fill("#steps", "0").await;
    page.click("#paint").await;
    let steps = "Steps is 0. Use a whole number from 1 to 150.";
    assert_eq!(page.script(&problem("steps")).await, steps);
    assert_eq!(page.find("#error").await.text().await.unwrap(), steps);
    assert_eq!(page.script("return document.activeElement.id").await, "steps");
    assert_eq!(page.text_of("#steps").await, "0", "the number is not rounded");
    page.fill("#steps", "4").await;
    assert_eq!(page.script(&problem("steps")).await, "");
    assert_eq!(page.script("return document.querySelector('#failure').hidden").await, true);

    let side = || page.script("return document.querySelector('#canvas').width");
    page.fill("#width", "100").await;
    page.click("#prompt").await;
    assert_eq!(
        page.script(&problem("width")).await,
        "Width in pixels is 100. Use a multiple of 8 from 8 to 1024, such as 96 or 104."
    );
    assert_eq!((page.text_of("#width").await.as_str(), side().await), ("100", json!(256)));
    page.screenshot("artist_number").await;
    page.fill("#width", "1216").await;
    page.click("#prompt").await;
    assert_eq!(
        page.script(&problem("width")).await,
        "Width in pixels is 1216. Use a multiple of 8 from 8 to 1024. The program's option --side allows more."
    );
    page.fill("#width", "104").await;
    page.click("#prompt").await;
    page.until("return document.querySelector('#canvas').width === 104").await;
    let jobs = page
        .client
        .execute_async("const done = arguments[0]; fetch('/api/jobs').then(r => r.json()).then(done)", Vec::new())
        .await
        .unwrap();
    assert_eq!(jobs, json!([]), "nothing was painted with a wrong number");
}

pub async fn invited(page: &Page) {
    resize(page, 1280, 800).await;
    let share = "const area = s => { const r = document.querySelector(s).getBoundingClientRect();
        return r.bottom <= innerHeight ? r.width * r.height : 0; };
        return (area('#canvas-sheet') + area('#frame')) / (innerWidth * innerHeight)";
    let share = page.script(share).await.as_f64().unwrap();
    assert!(share >= 0.4, "canvas and picture take {share} of the window");
    page.screenshot("artist_first_screen").await;

    // Words of the model go into the prompt; a color waits for its thing.
    for word in ["1girl", "gold", "eyes", "hair"] {
        page.click(&format!("[data-add='{word}']")).await;
    }
    assert_eq!(page.text_of("#prompt").await, "1girl, gold eyes, hair");

    // A card paints with one click, and locks nothing.
    let cards = page.client.find_all(fantoccini::Locator::Css(".card")).await.unwrap();
    assert_eq!(cards.len(), 4);
    page.fill("#steps", "4").await;
    cards[0].click().await.unwrap();
    page.until("return document.querySelector('#history [data-seed]') !== null").await;
    assert!(page.text_of("#prompt").await.contains("#ffd700 eyes"));
    assert_eq!(attribute(page, "#lock", "aria-pressed").await, "false");

    // Four seeds are shown side by side.
    page.find("#images").await.select_by_value("4").await.unwrap();
    page.click("#paint").await;
    page.until("return document.querySelectorAll('#grid:not([hidden]) button').length === 4").await;
    page.screenshot("artist_four").await;
    let chosen = attribute(page, "#grid button:nth-child(3) img", "src").await;
    page.click("#grid button:nth-child(3)").await;
    assert_eq!(attribute(page, "#picture", "src").await, chosen);
    assert_eq!(page.script("return document.querySelector('#grid').hidden").await, true);
    page.click("#grid-open").await;
    assert_eq!(page.script("return document.querySelector('#grid').hidden").await, false);
    page.click("#grid button:nth-child(2)").await;

    // A slider shows the picture before.
    slide(page, "#compare", 50).await;
    page.until("return document.querySelector('#before').naturalWidth === 256").await;
    let before = "return [document.querySelector('#before').hidden, document.querySelector('#before').alt]";
    let seed = page.script("return document.querySelector('#history li:nth-child(3) button').dataset.seed").await;
    let expected: Value = json!([false, format!("The picture before, of seed {}", seed.as_str().unwrap())]);
    assert_eq!(page.script(before).await, expected);
    page.screenshot("artist_before").await;
}

pub async fn phoned(page: &Page) {
    let top = |selector: &str| format!("document.querySelector('{selector}').getBoundingClientRect().top");
    let small = "return [...document.querySelectorAll('button, .button, select, summary, .switch, .check, input')]
        .filter(e => e.checkVisibility({ visibilityProperty: true }) && !e.closest('.unseen, #empty')
            && !e.matches('[type=checkbox]') && e.getBoundingClientRect().height > 0)
        .filter(e => e.getBoundingClientRect().height < 43.5 || (e.matches('.icon, .chip, .word')
            && e.getBoundingClientRect().width < 30))
        .map(e => e.id || e.outerHTML.slice(0, 80))";
    for (width, height) in [(390, 844), (640, 400)] {
        resize(page, width, height).await;
        assert_eq!(page.script("return document.documentElement.scrollWidth <= innerWidth").await, true);
        let order = page.script(&format!("return [{}, {}, {}]", top("#prompt"), top("#tabs"), top("#seed"))).await;
        let [prompt, tabs, seed] = [0, 1, 2].map(|place| order[place].as_f64().unwrap());
        assert!(prompt < tabs && tabs < seed, "{order}");
        for (tab, shown) in [("#tab-canvas", "#canvas-panel"), ("#tab-picture", "#picture-panel")] {
            page.click(tab).await;
            let visible =
                "return ['#canvas-panel', '#picture-panel'].filter(s => document.querySelector(s).checkVisibility())";
            assert_eq!(page.script(visible).await, json!([shown]));
            assert_eq!(page.script(small).await, json!([]), "targets at {width} × {height} on {tab}");
            page.screenshot(&format!("artist_{width}_{}", &tab[1..])).await;
        }
    }
    resize(page, 390, 844).await;
    // The words are folded, so that canvas or picture are in sight.
    assert_eq!(page.script("return document.querySelector('#vocabulary').open").await, false);
    let seen = page.script("return document.querySelector('#frame').getBoundingClientRect().bottom").await;
    assert!(seen.as_f64().unwrap() < 844.0, "the picture ends at {seen}");
    page.fill("#prompt", &PROMPT.replace("eyes", "#ffd700 eyes")).await;
    page.script("const s = document.querySelector('#seed'); s.value = 7; s.dispatchEvent(new Event('input'))").await;
    page.click("#tab-canvas").await;
    page.click("#paint").await;
    page.until("return document.querySelector('#history [data-seed]') !== null").await;
    assert_eq!(attribute(page, "#work", "data-tab").await, "picture", "the page shows the picture that forms");
    page.until(READY).await;
    page.script("document.querySelector('#saved').scrollIntoView({ block: 'center' })").await;
    page.click("#saved summary").await;
    page.click("#save-prompt").await;
    assert_eq!(page.script(small).await, json!([]), "targets beside a picture");
    assert_eq!(page.script("return document.documentElement.scrollWidth <= innerWidth").await, true);
    page.script("scrollTo(0, 0)").await;
    page.screenshot("studio_phone").await;
}
