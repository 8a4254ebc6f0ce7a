//! The scenes that were measured on a real Ollama, through a gateway before a real Ollama.
//!
//! They run when asked for, against the server that `GAUCHO_LIVE_OLLAMA` names: one with room for one model
//! (`OLLAMA_MAX_LOADED_MODELS=1`), three small models of different weights (`GAUCHO_LIVE_MODELS`, default
//! `gemma:a,gemma:b,gemma:c`) and some slots each (`GAUCHO_LIVE_SLOTS`, its `OLLAMA_NUM_PARALLEL`, default 2). What is
//! asserted holds on any machine; the speeds are printed (`--nocapture`).

mod drive;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use drive::{Answer, Scene, all_whole, median, read};

macro_rules! scenes {
    ($($scene:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        #[ignore = "needs a real Ollama: GAUCHO_LIVE_OLLAMA=http://... cargo test --test suite -- --ignored live"]
        async fn $scene() {
            let scene = Scene::through_the_gateway(stringify!($scene)).await;
            scenes::$scene(&scene).await;
            scene.end().await;
        }
    )*};
}

scenes! { swapflow; swap; starve; ctx; fair; orphan; hangup; leak; }

/// For comparison: nothing is promised of it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Ollama: GAUCHO_LIVE_OLLAMA=http://... cargo test --test suite -- --ignored live"]
async fn the_server_itself() {
    let scene = Scene::raw("swapflow").await;
    measure::swapflow(&scene).await;
    drop(scene);
    let scene = Scene::raw("swap").await;
    measure::swap(&scene).await;
    drop(scene);
    let scene = Scene::raw("ctx").await;
    measure::ctx(&scene).await;
    drop(scene);
    let scene = Scene::raw("fair").await;
    measure::fair(&scene).await;
}

/// What is asked, and the table of it.
mod measure {
    use super::*;

    /// Three applications with two clients each on a model of their own, for as long as several turns of each take.
    pub(super) async fn swapflow(scene: &Scene) -> Vec<Vec<Answer>> {
        let asked = Instant::now();
        all_whole(&[scene.ask(1, 1).await]);
        let end = scene.age() + f64::max(25.0, 12.0 * asked.elapsed().as_secs_f64());
        let apps = (0..3).map(|app| async move {
            join_all((0..2).map(|_| scene.again(app, app, end))).await.into_iter().flatten().collect::<Vec<_>>()
        });
        let apps = join_all(apps).await;
        for (app, answers) in apps.iter().enumerate() {
            scene.row(drive::APPS[app], answers).await;
        }
        apps
    }

    /// Thirty at once, models in rotation.
    pub(super) async fn swap(scene: &Scene) -> Vec<Answer> {
        let answers = join_all((0..30).map(|turn| scene.ask(turn % 3, turn % 3))).await;
        scene.row("all", &answers).await;
        answers
    }

    /// Two applications that want other contexts of one model, in turn.
    pub(super) async fn ctx(scene: &Scene) -> Vec<Answer> {
        let mut answers = Vec::new();
        for turn in 0..8 {
            let context = if turn % 2 == 0 { 2048 } else { 3072 };
            answers.push(scene.ask_with(turn % 2, 0, json!({ "num_predict": 24, "num_ctx": context })).await);
        }
        scene.row("both", &answers).await;
        answers
    }

    /// Ten clients of one application, one of another.
    pub(super) async fn fair(scene: &Scene) -> (Vec<Answer>, Vec<Answer>) {
        let crowd = async { join_all((0..10).map(|_| scene.again(0, 0, 15.0))).await };
        let (crowd, one) = tokio::join!(crowd, scene.again(1, 0, 15.0));
        let crowd: Vec<Answer> = crowd.into_iter().flatten().collect();
        scene.row("ten clients", &crowd).await;
        scene.row("one client", &one).await;
        (crowd, one)
    }
}

/// What must hold.
mod scenes {
    use super::*;

    pub(super) async fn swapflow(scene: &Scene) {
        let apps = measure::swapflow(scene).await;
        let all: usize = apps.iter().map(Vec::len).sum();
        for answers in &apps {
            all_whole(answers);
            assert!(answers.len() * 8 >= all, "one of three applications has {} of {all} answers", answers.len());
        }
        let loads = scene.loads().await;
        assert!(loads <= 5.0 + all as f64 / 4.0, "{loads} loads for {all} answers");
    }

    pub(super) async fn swap(scene: &Scene) {
        all_whole(&measure::swap(scene).await);
        let loads = scene.loads().await;
        assert!(loads <= 4.0, "{loads} loads for three models");
    }

    /// Four clients keep one model busy, one request wants another.
    pub(super) async fn starve(scene: &Scene) {
        let busy = async { join_all((0..4).map(|_| scene.again(0, 0, 25.0))).await };
        let late = async {
            scene.again(0, 0, 2.0).await;
            let answer = scene.ask(1, 1).await;
            (answer, scene.age())
        };
        let (busy, (late, answered_at)) = tokio::join!(busy, late);
        let busy: Vec<Answer> = busy.into_iter().flatten().collect();
        scene.row("busy", &busy).await;
        let late = [late];
        scene.row("late", &late).await;
        all_whole(&busy);
        all_whole(&late);
        assert!(answered_at < 25.0, "the late one waits until the busy ones stop: {answered_at}");
        assert!(scene.loads().await <= 4.0, "one there, one back, and one more of each at most");
    }

    pub(super) async fn ctx(scene: &Scene) {
        all_whole(&measure::ctx(scene).await);
        assert_eq!(scene.loads().await, 0.0, "the context is the operator's");
    }

    pub(super) async fn fair(scene: &Scene) {
        let (crowd, one) = measure::fair(scene).await;
        all_whole(&crowd);
        all_whole(&one);
        assert_eq!(scene.loads().await, 0.0);
        assert!(median(&one) < median(&crowd), "one client waits less than each of ten");
        assert!(one.len() * 5 >= crowd.len(), "{} of one, {} of the others", one.len(), crowd.len());
    }

    /// A client that is too impatient for a load, again and again.
    pub(super) async fn orphan(scene: &Scene) {
        let (mut answers, mut tries) = (Vec::new(), 0);
        while answers.is_empty() && tries < 200 {
            tries += 1;
            let asked = Instant::now();
            let mut exchange = scene.send(1, &scene.chat(1, json!({ "num_predict": 24 }))).await;
            let first = tokio::time::timeout(Duration::from_millis(350), exchange.peek()).await;
            if first.is_ok() {
                answers.push(read(exchange, asked).await);
            }
        }
        scene.row(&format!("try {tries}"), &answers).await;
        assert_eq!(answers.len(), 1, "answered at last");
        all_whole(&answers);
        assert!(scene.loads().await <= 1.0, "a load outlives who asked for it");
    }

    /// Many that want a long answer and leave when the first of them hears something, then one that waits.
    pub(super) async fn hangup(scene: &Scene) {
        let body = |_| scene.chat(0, json!({ "num_predict": 400 }));
        let mut leaving = join_all((0..40).map(body).map(|body| async move { scene.send(0, &body).await })).await;
        futures_util::future::select_all(leaving.iter_mut().map(|exchange| Box::pin(exchange.peek()))).await;
        drop(leaving);
        let next = [scene.ask(1, 0).await];
        scene.row("next", &next).await;
        all_whole(&next);
        assert_eq!(scene.loads().await, 0.0);
    }

    /// Two that stop reading a long answer and stay; the next one is answered all the same.
    pub(super) async fn leak(scene: &Scene) {
        let items = json!({ "type": "array", "items": { "type": "integer" }, "minItems": 1000 });
        let mut stuck = Vec::new();
        for _ in 0..2 {
            let mut body = scene.chat(0, json!({ "num_predict": 1200 }));
            body["format"] = items.clone();
            (body["logprobs"], body["top_logprobs"]) = (json!(true), json!(20));
            let mut exchange = scene.send_small(0, &body).await;
            assert_eq!(exchange.read_head().await.status, 200);
            stuck.push(exchange);
        }
        let next = [scene.ask(1, 0).await];
        scene.row("next", &next).await;
        all_whole(&next);
        drop(stuck);
    }
}
