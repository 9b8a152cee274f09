//! Tests of the REST API over a real socket: the built server with the bundled checkpoints, and a third-party HTTP
//! client.

mod access;
mod bundled;
mod documentation;
mod engines;
mod failures;
mod http;
mod limits;
mod model_changes;
mod models;
mod page;
mod predict;
mod process;
mod protocol;
mod settings;
mod test_server;

use anyhow::Result;
use http::SharedServer;
use libtest_mimic::Arguments;
use std::sync::Arc;
use std::thread;
use test_server::TestServer;
use tests::data;
use tests::shared::Shared;

/// Servers for tests that do not change their state.
struct Servers {
    bundled: SharedServer,
    small: Shared<TestServer>,
    impatient: Shared<TestServer>,
    with_keys: Shared<TestServer>,
}

fn main() {
    let mut arguments = Arguments::from_args();
    // At least four, because the tests that wait for timeouts use no processor meanwhile.
    arguments.test_threads.get_or_insert(thread::available_parallelism().map_or(4, |count| count.get().max(4)));
    let servers = Arc::new(Servers {
        bundled: SharedServer::new(),
        small: Shared::new(|| TestServer::start([])),
        impatient: Shared::new(|| TestServer::start(["--stall-timeout", "300ms"])),
        with_keys: Shared::new(|| TestServer::start(["--api-keys", "one,two"])),
    });
    let with_server = |name: &str, test: fn(&SharedServer) -> Result<()>| {
        let servers = servers.clone();
        data::bare_trial(name, move || test(&servers.bundled))
    };
    let with = |server: fn(&Servers) -> &Shared<TestServer>, test: fn(&TestServer) -> Result<()>| {
        let servers = servers.clone();
        move || test(server(&servers).get()?)
    };
    let small = |test| with(|servers| &servers.small, test);
    let impatient = |test| with(|servers| &servers.impatient, test);
    let with_keys = |test| with(|servers| &servers.with_keys, test);
    let trials = vec![
        with_server("form_with_a_photo_returns_a_prediction", predict::form),
        with_server("raw_photo_returns_the_same_prediction", predict::body),
        with_server("several_photos_return_results_in_order", predict::several),
        with_server("concurrent_photos_return_their_own_predictions", predict::concurrent),
        with_server("top_k_limits_the_number_of_classes", predict::top_k),
        with_server("model_is_selected_by_name", predict::model),
        with_server("malformed_requests_are_400", failures::malformed),
        with_server("malformed_forms_are_400_while_the_client_is_sending", failures::malformed_forms),
        with_server("unknown_models_and_paths_are_404", failures::unknown),
        with_server("unsupported_methods_are_405", failures::method),
        with_server("too_many_bytes_or_pixels_are_413", failures::too_large),
        with_server("unsupported_formats_and_encodings_are_415", failures::unsupported),
        with_server("undecodable_photos_are_422", failures::undecodable),
        with_server("models_are_listed", models::list),
        with_server("weights_are_served_at_their_hash", models::weights),
        with_server("weights_support_range_requests", models::ranges),
        with_server("matching_etags_return_not_modified", models::revalidation),
        with_server("page_is_served", page::embedded),
        data::bare_trial("page_appears_when_it_is_built", page::appears_when_it_is_built),
        with_server("tensors_return_logits", protocol::tensors),
        with_server("overflowing_values_are_422", protocol::overflow),
        with_server("tensors_return_classes", protocol::classification),
        with_server("protocol_errors_have_a_message", protocol::errors),
        with_server("predictions_are_explained", protocol::explanation),
        with_server("feature_maps_are_returned", protocol::feature_maps),
        with_server("api_is_documented", documentation::documents),
        with_server("responses_have_request_id_and_server_timing", documentation::tracing_headers),
        with_server("server_is_alive_and_ready", process::health),
        with_server("port_in_use_is_reported", process::port_in_use),
        data::bare_trial("invalid_checkpoint_is_reported", process::bad_checkpoint),
        data::bare_trial("duplicate_model_name_is_rejected", process::duplicate_name),
        data::trial("hostile_files_are_answered", small(failures::hostile_files)),
        data::bare_trial("incomplete_heads_close_the_connection", limits::slow_heads),
        data::bare_trial("idle_connections_are_closed", limits::idle_connections),
        data::bare_trial("half_closed_clients_receive_their_response", limits::half_closed_clients),
        data::bare_trial("expected_bodies_beyond_the_limit_are_413", small(limits::expected_bodies)),
        data::bare_trial("stalled_bodies_are_408", impatient(limits::slow_bodies)),
        data::bare_trial("connections_of_stalled_readers_are_closed", impatient(limits::slow_readers)),
        data::bare_trial("too_many_connections_are_503", limits::connections),
        data::bare_trial("connections_are_limited_by_file_descriptors", limits::file_descriptors),
        data::bare_trial("disconnected_clients_are_detected", limits::disconnected_clients),
        data::bare_trial("connections_persist_after_errors", small(limits::persistent_connections)),
        data::bare_trial("steady_slow_readers_keep_their_connection", limits::steady_readers),
        data::bare_trial("clients_receive_early_errors", with_keys(limits::early_errors)),
        data::bare_trial("exhausted_memory_budget_is_503", limits::memory_budget),
        data::bare_trial("full_queue_is_503_at_once", limits::full_queue),
        data::bare_trial("full_decode_queue_is_503_at_once", limits::full_decode_queue),
        data::bare_trial("more_photos_than_the_queue_holds_are_413", limits::photo_count),
        data::bare_trial("excessive_decode_memory_is_413", limits::decode_memory),
        data::bare_trial("exceeded_deadlines_are_504", small(limits::deadlines)),
        data::bare_trial("large_heads_are_431", small(limits::large_heads)),
        data::bare_trial("several_engines_return_the_same_predictions", small(engines::same_predictions)),
        data::bare_trial("flags_override_variables_which_override_the_file", settings::precedence),
        data::bare_trial("predictions_require_an_api_key", with_keys(access::api_keys)),
        data::bare_trial("cors_allows_configured_origins", access::cors),
        data::bare_trial("model_changes_require_the_admin_token", small(model_changes::admin_token)),
        data::bare_trial("models_are_replaced_under_load", model_changes::under_load),
        data::bare_trial("models_are_loaded_and_unloaded", model_changes::load_and_unload),
        data::bare_trial("bodies_of_model_changes_are_checked", model_changes::request_bodies),
        data::bare_trial("model_folder_is_watched", model_changes::watched_folder),
        data::bare_trial("watched_files_are_never_dropped_silently", model_changes::watched_files),
        data::bare_trial("bundled_models_are_served_by_default", bundled::served_by_default),
        data::bare_trial("bundled_models_are_loaded_and_unloaded", bundled::load_and_unload),
        data::bare_trial("unloaded_bundled_models_return_while_watching", bundled::watch),
        data::bare_trial("pipes_and_folders_are_rejected", model_changes::irregular_files),
        data::bare_trial("duplicate_names_do_not_affect_other_models", model_changes::duplicate_names),
        data::bare_trial("server_is_not_ready_during_shutdown_delay", process::shutdown_delay),
        data::bare_trial("idle_connections_are_closed_at_shutdown", process::idle_connections),
        data::bare_trial("requests_are_dropped_after_the_grace_period", process::grace_period),
        data::bare_trial("log_can_be_json", process::json_log),
        data::bare_trial("unread_log_does_not_block_the_server", process::unread_log),
        data::bare_trial("sighup_is_ignored", process::sighup),
        data::bare_trial("bad_files_of_the_model_folder_are_left_out", process::bad_files),
        data::bare_trial("sigterm_completes_started_requests", process::sigterm),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    // `exit` runs no destructors, and the shared servers must stop with the test.
    drop(servers);
    conclusion.exit();
}
