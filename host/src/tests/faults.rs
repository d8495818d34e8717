//! Panics, bad answers, cancellation and hanging, here and in a child.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_error_and_the_plugin_stays_usable() {
    for isolation in BOTH {
        let loaded = loaded(isolation).await;
        let error = loaded.inspect("panic").await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Internal);
        assert_eq!(error.message, "the plugin faulty failed in inspect: panicked: asked to panic");
        loaded.works().await;
        assert_eq!(loaded.state(), PluginState::Loaded);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_plugin_comes_through_without_control_characters() {
    for isolation in BOTH {
        let error = loaded(isolation).await.inspect("control").await.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (ErrorCode::NotFound, "no[31m \nsuchthing"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_beyond_the_cap_is_an_error() {
    for isolation in BOTH {
        let loaded = loaded(isolation).await;
        let error = loaded.inspect("large").await.unwrap_err();
        assert_eq!(error.code, ErrorCode::ResourceExhausted, "{error}");
        loaded.works().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_is_not_there_is_unsupported() {
    for isolation in BOTH {
        let error = within(loaded(isolation).await.runtime.images()).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unsupported);
        assert_eq!(error.message, "this runtime has no images");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_is_cancelled_in_the_plugin() {
    for isolation in BOTH {
        let loaded = loaded(isolation).await;
        let session = loaded.plugin.session().await.unwrap();
        let begun = Instant::now();
        for _ in 0..100 {
            assert!(tokio::time::timeout(Duration::from_millis(1), loaded.inspect("pend")).await.is_err());
        }
        until(|| session.calls.under_way() == 0).await;
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        loaded.works().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_a_limit_in_the_plugin_and_here() {
    for isolation in BOTH {
        let loaded = loaded(isolation).await;
        let session = loaded.plugin.session().await.unwrap();
        let inspect = gx_core::plugin::method::RuntimeMethod::Inspect.number();
        let (call, _) = session.begin(inspect, 30, br#"{"id":"pend"}"#, false).unwrap();
        let error = within(call.done()).await.unwrap_err();
        assert_eq!(error.message, "inspect took longer than 30 ms");
        // This one blocks its thread, so that the plugin cannot notice the time.
        let (call, _) = session.begin(inspect, 30, br#"{"id":"block"}"#, false).unwrap();
        let error = within(call.done()).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::DeadlineExceeded);
        assert_eq!(error.message, "the plugin faulty did not answer inspect within 30 ms");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_at_once_are_all_answered() {
    for isolation in BOTH {
        let loaded = Arc::new(loaded(isolation).await);
        let calls: Vec<_> = (0..1_000)
            .map(|number| {
                let loaded = loaded.clone();
                tokio::spawn(async move { loaded.inspect(&format!("slow{number}")).await.unwrap().name })
            })
            .collect();
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap(), format!("slow{number}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_here_is_marked_and_refused_at_once() {
    let loaded = loaded(Isolation::Inline).await;
    let blocked = tokio::time::timeout(Duration::from_millis(50), loaded.inspect("block")).await;
    assert!(blocked.is_err());
    loaded.until(PluginState::Hung).await;
    let error = loaded.inspect("plain").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert_eq!(error.message, "the plugin faulty hangs: inspect did not return");
    assert!(error.hint.unwrap().contains("isolation"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_hangs_is_killed_and_started_again() {
    let loaded = loaded(Isolation::Process).await;
    assert!(tokio::time::timeout(Duration::from_millis(50), loaded.inspect("block")).await.is_err());
    until(|| loaded.plugin.status().restarts == 1).await;
    loaded.works().await;
    let why = loaded.plugin.status().last_error.unwrap();
    assert_eq!(why, "its process killed: inspect did not return");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_shutdown_calls_are_refused() {
    for isolation in BOTH {
        let loaded = loaded(isolation).await;
        let pending = tokio::spawn({
            let plugin = loaded.plugin.clone();
            async move { Remote(plugin).inspect(id("pend")).await }
        });
        let session = loaded.plugin.session().await.unwrap();
        until(|| session.calls.under_way() == 1).await;
        within(loaded.plugin.shutdown(Duration::from_secs(2))).await;
        assert_eq!(loaded.state(), PluginState::Declared);
        assert!(within(pending).await.unwrap().is_err());
        assert_eq!(loaded.inspect("plain").await.unwrap_err().code, ErrorCode::Unavailable);
    }
}
