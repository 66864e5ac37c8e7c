//! The choice of a model.

use super::Page;
use super::artist::READY;
use impasto::{Pipeline, Source};
use impasto_studio::Engine;
use std::path::Path;

/// Returns an engine of a model that the page does not know: the files of the embedded model by another name.
pub fn unknown() -> Engine {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../impasto-tiny/model");
    Pipeline::builder().source(Source::dir(folder)).build().unwrap().into()
}

/// Checks that neither the words nor the examples, which were chosen for the embedded models, are there for another.
pub async fn plain(page: &Page) {
    let plain = "return document.querySelector('#vocabulary').hidden
        && getComputedStyle(document.querySelector('.card')).display === 'none'";
    assert_eq!(page.script(plain).await, true);
}

/// Chooses a model, as a user does.
async fn choose(page: &Page, name: &str) {
    let script = format!(
        "const field = document.querySelector('#model-choice'); field.value = '{name}';
         field.dispatchEvent(new Event('change'))"
    );
    page.script(&script).await;
}

pub async fn chosen(page: &Page) {
    let choices = "return [...document.querySelector('#model-choice').options].map(({ value }) => value).join()";
    assert_eq!(page.script(choices).await, "embedded,embedded-fast,broken");
    page.fill("#prompt", "a red boat").await;
    page.fill("#steps", "6").await;
    page.paint().await;

    // The settings become those of the model, and the prompt stays.
    choose(page, "embedded-fast").await;
    page.until("return document.querySelector('#steps').value === '4'").await;
    page.until(READY).await;
    assert_eq!(page.text_of("#prompt").await, "a red boat");
    assert_eq!(page.text_of("#model-choice").await, "embedded-fast");
    assert_eq!(page.script("return document.querySelector('#vocabulary').hidden").await, false);
    page.screenshot("studio_model").await;
    page.paint().await;
    let texts = "return document.querySelector('#infotext pre').textContent";
    assert!(page.script(texts).await.as_str().unwrap().contains("Model: the embedded fast model"));

    // A model that cannot be loaded leaves the former one.
    choose(page, "broken").await;
    page.until("return document.querySelector('#error').textContent.includes('the file ends too early')").await;
    page.until(READY).await;
    assert_eq!(page.text_of("#model-choice").await, "embedded-fast");
    page.paint().await;

    // A picture brings its model back with its settings.
    page.click("#history li:last-child button").await;
    page.click("#restore").await;
    page.until("return document.querySelector('#model-choice').value === 'embedded'").await;
    page.until("return document.querySelector('#steps').value === '6'").await;
    page.client.refresh().await.unwrap();
    page.until(READY).await;
    assert_eq!(page.text_of("#model-choice").await, "embedded");

    // A page that is loaded again while the model is loaded gets the model too.
    choose(page, "embedded-fast").await;
    page.until("return ['waiting', 'starting'].includes(document.querySelector('#progress-text').textContent)").await;
    page.client.refresh().await.unwrap();
    page.until("return document.querySelector('#model-choice').value === 'embedded-fast'").await;
    page.until(READY).await;
}
