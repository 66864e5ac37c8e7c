//! Pictures that the run follows, or draws like.

use super::Page;
use super::artist::READY;
use impasto::{Raster, Rgb};
use serde_json::json;

/// The rows of the list: what is done with each picture, and its strength.
const ROWS: &str = "return [...document.querySelectorAll('#followed-pictures li')]
    .map((row) => [row.querySelector('.kind').value, row.querySelector('.strength').value])";

pub async fn followed(page: &Page) {
    let file = |name: &str, picture: &Raster| {
        let path = page.profile.path().join(name);
        picture.save(&path).unwrap();
        path.display().to_string()
    };
    let red = file("red.png", &Raster::flat(Rgb(200, 30, 30), (40, 30)));
    let mut line = Raster::flat(Rgb(255, 255, 255), (256, 256));
    (40..216).for_each(|at| (0..4).for_each(|wide| line.set(at, at + wide, Rgb(0, 0, 0))));
    let line = file("line.png", &line);
    page.fill("#prompt", "1girl, hair, shirt").await;
    page.fill("#seed", "7").await;
    page.fill("#steps", "6").await;
    page.script("const lock = document.querySelector('#lock'); if (lock.ariaPressed !== 'true') lock.click()").await;
    page.paint().await;

    // A picture to draw like, everywhere and then for one thing.
    page.click("#followed summary").await;
    page.find("#followed-open").await.send_keys(&red).await.unwrap();
    page.until("return document.querySelectorAll('#followed-pictures li').length === 1").await;
    assert_eq!(page.script(ROWS).await, json!([["", "1"]]));
    page.paint().await;
    page.fill("#followed-pictures .place", "hair").await;
    page.fill("#followed-pictures .strength", "2").await;
    page.screenshot("studio_like").await;
    page.paint().await;

    // A picture that a ControlNet follows.
    page.click("#followed-pictures .remove").await;
    page.find("#followed-open").await.send_keys(&line).await.unwrap();
    page.until("return document.querySelectorAll('#followed-pictures li').length === 1").await;
    let choose = "const kind = document.querySelector('#followed-pictures .kind');
        kind.value = 'lines'; kind.dispatchEvent(new Event('change'));";
    page.script(choose).await;
    page.fill("#followed-pictures .strength", "0.5").await;
    page.paint().await;
    page.screenshot("studio_followed").await;
    let seeds =
        "return [...document.querySelectorAll('#history [data-seed]')].every(({ dataset }) => dataset.seed === '7')";
    assert_eq!(page.script(seeds).await, true);
    let mut pictures = Vec::new();
    for job in 1..=4 {
        pictures.push(page.picture(job).await);
    }
    for (at, picture) in pictures.iter().enumerate() {
        assert!(!pictures[..at].contains(picture), "picture {at} is an earlier one");
    }

    // A wrong strength is named, and the list outlives a reload.
    page.fill("#followed-pictures .strength", "-3").await;
    page.click("#paint").await;
    page.until("return document.querySelector('#error').textContent.startsWith('Strength of the picture is -3')").await;
    page.fill("#followed-pictures .strength", "0.5").await;
    page.client.refresh().await.unwrap();
    page.until(READY).await;
    assert_eq!(page.script(ROWS).await, json!([["lines", "0.5"]]));

    // Another picture's settings come back with it.
    page.click("#followed-pictures .remove").await;
    page.click("#restore").await;
    page.until("return document.querySelectorAll('#followed-pictures li').length === 1").await;
    assert_eq!(page.script(ROWS).await, json!([["lines", "0.5"]]));
}
