//! The choice of a model.

use super::Page;
use super::artist::READY;

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
    assert_eq!(page.script("return document.querySelector('#vocabulary').hidden").await, true);
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
