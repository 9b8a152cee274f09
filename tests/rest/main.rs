//! The REST interface over a real socket: the built server with the bundled checkpoints, and a client that is not ours.

mod access;
mod changes;
mod described;
mod engines;
mod failures;
mod limits;
mod models;
mod own;
mod predict;
mod process;
mod protocol;
mod settings;
mod shared;
mod start;

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};
use shared::Shared;
use std::sync::Arc;
use tests::data;

fn main() {
    let arguments = Arguments::from_args();
    let shared = Arc::new(Shared::default());
    let with_server = |name: &str, test: fn(&Shared) -> Result<()>| {
        let shared = shared.clone();
        Trial::test(name, move || Ok(test(&shared).map_err(|error| format!("{error:#}"))?))
    };
    let trials = vec![
        with_server("a_photo_in_a_form_gets_a_prediction", predict::form),
        with_server("a_photo_as_it_is_gets_the_same_prediction", predict::body),
        with_server("several_photos_get_results_in_their_order", predict::several),
        with_server("photos_at_the_same_time_get_each_its_own_prediction", predict::at_once),
        with_server("top_k_says_how_many_classes_are_named", predict::top_k),
        with_server("a_model_is_asked_by_name", predict::model),
        with_server("what_is_malformed_is_400", failures::malformed),
        with_server("a_form_that_breaks_is_400_though_it_goes_on", failures::broken_forms),
        with_server("what_is_unknown_is_404", failures::unknown),
        with_server("another_method_is_405", failures::method),
        with_server("too_many_bytes_or_pixels_are_413", failures::too_large),
        with_server("bytes_of_no_supported_format_are_415", failures::unsupported),
        with_server("what_cannot_be_decoded_is_422", failures::undecodable),
        with_server("models_say_what_they_know", models::list),
        with_server("weights_are_those_of_the_hash", models::weights),
        with_server("weights_come_in_parts", models::parts),
        with_server("weights_that_are_known_are_not_sent", models::known),
        with_server("the_page_is_carried", models::page),
        with_server("tensors_get_their_logits", protocol::tensors),
        with_server("values_too_large_to_compute_with_are_422", protocol::overflow),
        with_server("tensors_get_their_classes", protocol::classification),
        with_server("errors_of_the_protocol_are_sentences", protocol::errors),
        with_server("an_answer_is_explained", protocol::explanation),
        with_server("the_interface_is_described", described::documents),
        with_server("an_answer_says_which_it_is_and_how_long_it_took", described::traces),
        with_server("health_and_readiness_are_told", process::health),
        with_server("an_occupied_port_is_said", process::occupied),
        data::bare_trial("a_bad_checkpoint_is_named", process::bad_checkpoint),
        data::bare_trial("a_name_given_twice_is_refused", process::name_twice),
        data::trial("hostile_files_are_answered", failures::hostile_files),
        data::bare_trial("heads_that_do_not_come_end_the_connection", limits::slow_heads),
        data::bare_trial("bodies_that_do_not_come_are_408", limits::slow_bodies),
        data::bare_trial("who_does_not_read_is_given_up", limits::slow_readers),
        data::bare_trial("too_many_connections_are_503", limits::connections),
        data::bare_trial("who_may_open_few_files_has_few_connections", limits::descriptors),
        data::bare_trial("whose_client_has_gone_is_noticed", limits::gone_clients),
        data::bare_trial("connections_are_kept_behind_refusals", limits::kept_connections),
        data::bare_trial("who_takes_a_little_all_the_time_is_waited_for", limits::steady_readers),
        data::bare_trial("who_is_refused_early_sees_why", limits::early_refusals),
        data::bare_trial("too_many_bytes_in_flight_are_503", limits::bytes_in_flight),
        data::bare_trial("full_queues_are_503_at_once", limits::full_queues),
        data::bare_trial("too_many_photos_to_decode_are_503_at_once", limits::full_decode_queue),
        data::bare_trial("more_photos_than_may_wait_are_413", limits::photos),
        data::bare_trial("a_decode_that_takes_too_much_memory_is_413", limits::decode_memory),
        data::bare_trial("deadlines_are_504", limits::deadlines),
        data::bare_trial("heads_that_are_too_large_are_431", limits::large_heads),
        data::bare_trial("several_engines_answer_as_one", engines::alike),
        data::bare_trial("flags_count_more_than_variables_and_these_more_than_the_file", settings::precedence),
        data::bare_trial("it_is_ready_within_a_second", start::ready_soon),
        data::bare_trial("keys_open_predictions", access::keys),
        data::bare_trial("pages_of_named_origins_may_ask", access::origins),
        data::bare_trial("models_change_with_a_token_only", changes::with_a_token_only),
        data::bare_trial("models_change_while_requests_come", changes::while_requests_come),
        data::bare_trial("models_are_loaded_and_unloaded", changes::by_hand),
        data::bare_trial("changes_come_with_bodies", changes::bodies),
        data::bare_trial("a_folder_is_watched", changes::in_a_folder),
        data::bare_trial("pipes_and_folders_are_no_checkpoints", changes::no_files),
        data::bare_trial("a_name_that_comes_twice_stops_no_other", changes::clashes),
        data::bare_trial("who_stops_says_that_it_is_not_ready", process::not_ready),
        data::bare_trial("idle_connections_do_not_keep_it", process::idle_connections),
        data::bare_trial("what_does_not_end_in_time_is_dropped", process::grace),
        data::bare_trial("the_log_is_json_if_asked_for", process::json_log),
        data::bare_trial("a_log_that_nobody_reads_stops_nothing", process::unread_log),
        data::bare_trial("sigterm_ends_it_when_what_it_has_begun_is_answered", process::sigterm),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    // `exit` drops nothing, and the server must end with the test.
    drop(shared);
    conclusion.exit();
}
