//! Where each case of the reliability specification is shown, or why it is not.
//!
//! Ids are those of the specification; the tests of `rows` carry them in their names as well.

/// Ids, the tests that show them, and what remains to be said.
const CASES: &[(&str, &[&str], &str)] = &[
    (
        "A01",
        &[
            "a01_retry_after_in_seconds_is_kept_on_every_kind_of_request_and_is_no_failed_try",
            "a01_retry_after_as_a_date_is_kept_on_every_kind_of_request_and_is_no_failed_try",
            "a01_a_503_that_names_a_wait_is_kept_like_a_429",
            "a01_retry_after_is_kept_by_a_token_service",
            "what_a_registry_says_about_waiting_is_kept_and_is_no_failed_try",
            "retry_after_is_read_in_both_forms",
        ],
        "",
    ),
    (
        "A02",
        &[
            "a02_a_wait_beyond_all_patience_fails_that_hosts_images_at_once_and_no_others",
            "a02_a_wait_that_makes_no_sense_is_an_ordinary_pause",
        ],
        "",
    ),
    (
        "A03",
        &[
            "a03_a_429_without_a_wish_and_with_any_body_is_waited_out",
            "a03_a_429_of_the_host_that_a_registry_redirects_to_is_waited_out",
        ],
        "",
    ),
    (
        "A04",
        &[
            "a04_what_is_permanent_is_asked_once_at_the_source",
            "a04_what_is_permanent_is_asked_once_at_the_target",
            "a04_a_token_that_is_refused_is_replaced_once",
            "each_answer_has_one_meaning",
        ],
        "",
    ),
    (
        "A05",
        &[
            "a05_errors_of_servers_are_tried_again_with_growing_pauses",
            "a05_the_start_of_an_upload_is_tried_again",
            "pauses_grow_with_jitter_up_to_a_limit",
        ],
        "",
    ),
    (
        "A06",
        &[
            "a06_a_host_that_fails_most_of_the_time_is_worn_down",
            "an_overloaded_host_that_serves_others_is_tried_more_often",
        ],
        "",
    ),
    (
        "A07",
        &["a07_tries_do_not_multiply", "a_target_that_is_always_busy_is_given_up_after_few_requests"],
        "",
    ),
    (
        "A09",
        &[
            "a09_a_second_run_gets_no_manifest_and_a_first_one_each_once",
            "a_second_run_asks_each_side_once_for_each_name_and_writes_nothing",
        ],
        "",
    ),
    ("A10", &["a10_odd_error_bodies_are_told_in_short", "odd_error_bodies_are_told_in_short"], ""),
    (
        "B01",
        &[
            "a_token_that_dies_before_the_end_of_an_upload_is_renewed_within_the_same_session",
            "a_token_that_dies_between_two_pieces_is_renewed_within_the_same_session",
            "a_token_that_dies_before_the_manifest_is_renewed_and_no_blob_is_sent_again",
            "an_upload_that_outlives_its_tokens_ends_well_at_a_docker_registry",
        ],
        "",
    ),
    (
        "B02",
        &["odd_lifetimes_lead_to_no_loop", "lifetimes_never_lead_to_a_loop"],
        "lifetimes count from the answer by a clock that nobody sets, so issued_at and skew are not looked at",
    ),
    ("B03", &["each_token_is_fetched_once_and_each_host_refuses_once"], ""),
    (
        "B04",
        &[
            "a_scope_that_the_challenge_adds_is_asked_for_as_well",
            "a_registry_that_no_token_satisfies_is_left_soon",
            "a_mount_for_which_no_scope_is_enough_becomes_an_upload",
            "a_mount_at_a_docker_registry_has_the_scopes_of_both_repositories",
            "a_wider_scope_is_asked_for_once_it_is_wanted",
            "the_same_actions_in_other_words_are_no_wider_scope",
            "c14_what_another_repository_has_is_mounted_with_the_scopes_for_it",
        ],
        "",
    ),
    (
        "B05",
        &[
            "an_answer_without_a_usable_token_is_told_and_not_quoted",
            "tokens_are_read_in_both_names_and_never_quoted",
        ],
        "",
    ),
    (
        "B06",
        &[
            "challenges_are_read_in_every_form",
            "no_challenge_makes_the_parser_fail_or_hang",
            "a_token_service_that_is_no_plain_address_gets_nothing",
        ],
        "",
    ),
    (
        "B07",
        &[
            "a_wrong_password_is_shown_once_for_all_images",
            "a_token_service_that_refuses_the_password_is_asked_once_for_all_images",
            "a_refused_login_ends_the_run_and_names_where_it_came_from",
            "a_registry_that_no_token_satisfies_is_left_soon",
        ],
        "",
    ),
    (
        "B08",
        &[
            "a_stale_login_at_a_public_source_is_told_and_done_without",
            "a_stale_login_at_a_target_is_a_failed_login",
        ],
        "",
    ),
    (
        "B09",
        &["an_identity_token_is_exchanged_by_post_or_else_by_get", "azure_exchanges_an_identity_token"],
        "",
    ),
    (
        "B11",
        &[
            "a_login_is_found_wherever_docker_and_podman_keep_it_and_its_place_is_told",
            "keys_are_found_as_docker_and_podman_write_them",
            "entries_are_read_in_every_form",
            "places_are_looked_into_in_the_documented_order",
            "the_login_of_the_command_line_is_for_the_target_alone",
            "one_of_several_equal_keys_wins_every_time",
            "a_named_file_has_to_be_there_and_a_broken_one_is_named_and_not_quoted",
            "a_password_without_a_user_or_without_a_word_is_wrong_use",
        ],
        "",
    ),
    (
        "B12",
        &[
            "each_repository_of_one_registry_gets_its_own_login",
            "a_good_login_that_is_not_enough_for_one_repository_serves_all_others",
        ],
        "",
    ),
    (
        "C01",
        &[
            "c01_upload_locations_are_resolved_however_they_are_written",
            "c01_a_plain_http_location_of_an_https_host_is_used_over_https",
            "c01_a_location_at_plain_http_on_another_host_is_refused",
            "c01_a_location_on_another_host_gets_the_bytes_and_no_credentials",
            "r8_a_registry_that_does_not_know_of_the_tls_before_it_is_pushed_to_over_tls",
            "the_digest_is_added_without_touching_the_rest",
        ],
        "",
    ),
    ("C03", &["c03_each_chunk_goes_to_the_newest_address"], ""),
    (
        "C05",
        &[
            "c05_a_413_is_answered_with_chunks_once_for_the_whole_host",
            "c05_a_413_that_is_lost_in_a_reset_is_guessed_after_two_of_them",
            "c05_many_large_blobs_at_once_learn_the_limit_together",
            "c05_a_limit_below_all_chunks_is_said_with_what_to_do",
            "r8_a_proxy_that_takes_one_mebibyte_gets_smaller_pieces",
        ],
        "",
    ),
    ("C06", &["c06_a_416_for_a_chunk_that_is_too_large_makes_smaller_ones"], ""),
    (
        "C07",
        &[
            "c07_nothing_is_sent_in_chunks_unasked",
            "c07_a_target_that_takes_neither_wholes_nor_pieces_is_told_so_and_others_are_done",
            "f02_ghcr_takes_three_images_whole",
            "f10_google_takes_three_images_without_chunks_and_mounts",
        ],
        "",
    ),
    (
        "C08",
        &[
            "c08_a_session_that_is_gone_is_replaced_and_the_blob_sent_again",
            "c08_a_target_that_always_loses_its_sessions_is_not_called_an_unknown_repository",
            "r6_a_target_that_is_killed_and_back_after_two_seconds_gets_everything",
        ],
        "",
    ),
    (
        "C09",
        &[
            "c09_what_a_target_says_of_the_bytes_it_has_got_is_not_trusted_blindly",
            "c09_a_piece_that_was_taken_in_part_ends_in_a_whole_blob",
        ],
        "",
    ),
    ("C10", &["c10_pieces_are_as_large_as_the_target_wants_them_at_least"], "not built: the test is ignored"),
    ("C11", &["c11_pieces_are_labelled_with_first_and_last_byte_and_nothing_else"], ""),
    (
        "C12",
        &[
            "c12_a_mount_that_is_refused_in_any_way_becomes_an_upload",
            "c12_a_mount_whose_scope_no_token_is_enough_for_becomes_an_upload",
            "c12_a_mount_that_hangs_becomes_an_upload",
            "c12_a_mount_that_was_no_mount_is_made_good_for_by_an_upload",
            "a_target_that_answers_mounts_with_an_error_is_streamed_to",
        ],
        "",
    ),
    ("C13", &["c13_and_c15_mounts_name_a_repository_of_the_target_and_never_none"], "and after every scene"),
    (
        "C14",
        &[
            "c14_what_another_repository_has_is_mounted_with_the_scopes_for_it",
            "a_docker_registry_with_tokens_lets_blobs_be_mounted_between_repositories",
        ],
        "",
    ),
    ("C15", &["c13_and_c15_mounts_name_a_repository_of_the_target_and_never_none"], "and after every scene"),
    (
        "C16",
        &[
            "c16_a_blob_of_the_wrong_size_at_the_target_is_sent_again_and_then_said_to_be_damaged",
            "c16_a_target_that_tells_no_size_gets_the_blob_again",
            "a_damaged_blob_at_the_target_is_found_out_and_never_built_upon",
        ],
        "",
    ),
    (
        "C17",
        &[
            "c17_what_the_target_lacks_after_all_is_sent_again_once",
            "c17_a_blob_that_is_collected_right_after_it_was_confirmed_is_sent_again",
        ],
        "",
    ),
    ("C18", &["c18_what_is_shared_is_fetched_once_and_sent_once"], ""),
    ("C19", &["c19_empty_blobs_and_images_without_layers_are_whole_too"], ""),
    ("C20", &["c20_an_upload_whose_answer_is_lost_is_found_and_not_sent_again"], ""),
    ("C21", &["c21_a_target_that_loses_patience_with_a_stalled_source_gets_the_blob_again"], ""),
    ("C22", &["c22_sessions_are_never_deleted"], "an aborted session is left to the registry"),
    (
        "C23",
        &["c23_an_answer_that_comes_while_the_body_is_sent_is_heard"],
        "HTTP/1.1: the program speaks no HTTP/2",
    ),
    ("C24", &["ten_layers_of_150_mb_in_flight_take_less_than_64_mib"], ""),
    (
        "D01",
        &[
            "d01_a_blob_that_is_cut_is_continued_with_a_closed_range",
            "d01_a_cut_every_so_often_is_no_end_as_long_as_bytes_come",
            "d01_without_progress_it_ends",
            "d01_an_answer_with_another_range_is_not_joined_on",
        ],
        "",
    ),
    ("D02", &["d02_a_connection_that_is_lost_after_the_last_byte_matters_to_nobody"], ""),
    ("D03", &["d03_a_body_that_is_longer_than_its_manifest_says_is_read_no_further"], ""),
    (
        "D05",
        &[
            "d05_storage_that_a_registry_redirects_to_sees_no_credentials",
            "d05_redirects_are_followed_up_to_five_times",
            "d05_a_redirect_to_a_path_is_followed",
            "d05_a_redirect_in_a_circle_fails_one_image_and_says_so",
            "d05_a_redirect_from_https_to_plain_http_is_refused",
            "d05_a_head_that_the_storage_refuses_says_nothing_about_what_is_there",
        ],
        "",
    ),
    (
        "D06",
        &[
            "d06_a_signed_address_that_has_run_out_is_asked_for_again",
            "d06_a_download_goes_on_at_a_new_signed_address",
        ],
        "",
    ),
    ("D07", &["d07_storage_that_refuses_one_blob_fails_its_image_alone_and_is_named"], ""),
    (
        "D08",
        &[
            "d08_a_download_that_stalls_is_continued",
            "d08_an_answer_that_never_begins_is_given_up",
            "d08_a_host_that_swallows_connections_is_given_up",
            "d08_an_upload_that_is_no_longer_read_is_tried_again",
            "d08_an_upload_that_is_slow_and_healthy_is_left_alone",
            "d08_a_target_may_think_about_what_it_got_for_longer_than_about_anything_else",
        ],
        "",
    ),
    (
        "D09",
        &[
            "d09_a_download_that_trickles_is_begun_anew",
            "d09_a_slow_source_that_keeps_the_pace_is_left_alone",
        ],
        "",
    ),
    (
        "D11",
        &[
            "d11_a_blob_that_came_damaged_once_is_fetched_past_the_caches",
            "d11_a_blob_that_stays_damaged_is_named_with_both_digests_and_never_stored",
            "d11_a_manifest_that_came_damaged_is_fetched_past_the_caches",
            "r7_a_source_whose_files_are_damaged_is_found_out",
        ],
        "",
    ),
    ("D12", &["d12_a_web_page_instead_of_content_is_called_one"], ""),
    (
        "D13",
        &[
            "d13_no_encoding_is_asked_for",
            "d13_an_encoding_that_nobody_asked_for_is_taken_off",
            "d13_a_layer_that_is_itself_compressed_stays_so",
            "d13_an_encoding_that_unfolds_without_end_is_stopped",
        ],
        "",
    ),
    (
        "D14",
        &[
            "d14_connections_that_break_before_the_answer_are_made_again",
            "d14_connections_that_are_closed_while_idle_are_no_failure",
            "d14_a_host_that_is_away_for_a_moment_is_waited_for",
            "d14_a_name_that_nobody_has_fails_at_once",
        ],
        "",
    ),
    (
        "E01",
        &[
            "e01_a_pinned_image_is_pulled_by_its_digest_and_pushed_under_its_tag",
            "a_pinned_image_goes_under_its_tag_with_exactly_the_pinned_digest",
        ],
        "",
    ),
    (
        "E03",
        &[
            "e03_a_tag_that_moves_meanwhile_gives_one_image_and_never_a_mix",
            "e03_a_digest_in_a_header_is_a_hint_and_the_bytes_are_what_counts",
        ],
        "",
    ),
    (
        "E05",
        &[
            "e05_an_index_with_a_missing_child_fails_whole_and_names_the_platform",
            "e05_an_index_whose_childs_blob_is_gone_fails_whole",
        ],
        "",
    ),
    (
        "E06",
        &[
            "an_index_keeps_its_digest_where_the_target_takes_it",
            "elsewhere_a_trimmed_index_is_put_and_both_digests_are_told",
            "a_pinned_digest_changes_only_if_the_user_says_so",
        ],
        "",
    ),
    (
        "E07",
        &[
            "e07_foreign_layers_stay_where_they_are_and_the_manifest_as_it_is",
            "e07_an_ordinary_layer_is_copied_whatever_its_urls_say",
        ],
        "not built: --include-foreign",
    ),
    (
        "E08",
        &[
            "e08_every_shape_arrives_byte_for_byte_at_every_level",
            "e08_a_shape_that_the_target_refuses_is_not_made_to_fit",
            "r1_every_shape_goes_through_docker_registries_and_skopeo_agrees",
        ],
        "",
    ),
    ("E09", &["e09_a_target_that_does_not_take_a_type_fails_that_image_and_names_the_type"], ""),
    ("E10", &["e10_schema_1_is_refused_with_advice"], ""),
    (
        "E11",
        &[
            "e11_what_is_the_same_costs_one_question_and_what_differs_is_replaced",
            "e11_a_tag_that_may_not_be_changed_is_said_to_be_immutable",
        ],
        "not built: --no-clobber",
    ),
    (
        "E12",
        &[
            "e12_two_sources_for_one_name_are_refused_before_the_first_request",
            "e12_one_source_twice_is_one_image",
            "coredns_has_both_of_kubeadms_places",
            "two_sources_of_one_place_collide_and_the_same_one_twice_does_not",
        ],
        "",
    ),
    (
        "E13",
        &[
            "e13_a_manifest_that_contradicts_itself_or_its_header_is_refused",
            "e13_a_header_that_says_nothing_is_passed_over",
        ],
        "",
    ),
    (
        "E14",
        &[
            "e14_heads_that_are_odd_are_made_up_for_by_one_get",
            "e14_a_head_that_denies_what_a_get_gives_is_not_believed_at_the_source",
        ],
        "",
    ),
    (
        "E15",
        &[
            "e15_a_digest_that_is_none_is_refused_before_any_request_with_it",
            "e15_sha512_digests_are_kept_and_verified",
        ],
        "",
    ),
    (
        "E16",
        &[
            "e16_manifests_beyond_all_measure_are_refused_soon",
            "e16_indexes_are_followed_eight_levels_deep_and_each_once",
        ],
        "",
    ),
    (
        "E17",
        &["e17_configurations_are_bytes_like_all_others"],
        "a size that lies fails the image: it could not be told from damage",
    ),
    ("E18", &["e18_every_manifest_is_asked_for_with_all_types_in_one_header"], ""),
    ("E19", &[], "not built: referrers"),
    (
        "E20",
        &[
            "references_are_read_as_docker_reads_them",
            "what_is_no_reference_is_refused_with_a_reason",
            "no_text_makes_a_parser_panic",
        ],
        "",
    ),
    (
        "F01",
        &[
            "f01_ecr_takes_three_images_into_repositories_that_exist",
            "f01_ecr_says_which_repositories_have_to_be_made_and_how",
            "f01_ecr_as_a_source_sends_blobs_from_its_storage",
        ],
        "",
    ),
    ("F02", &["f02_ghcr_takes_three_images_whole"], ""),
    (
        "F03",
        &["f03_docker_hub_is_pulled_from_by_its_other_name_with_a_token_and_a_quota"],
        "the other name: upstream_names",
    ),
    ("F04", &["f04_quay_is_pulled_from_through_its_bursts_of_errors"], ""),
    (
        "F05",
        &[
            "f05_harbor_takes_three_images_into_a_project_through_its_proxy",
            "f05_harbor_without_the_project_says_that_it_has_to_be_made",
            "f05_harbor_that_is_full_says_so",
        ],
        "",
    ),
    (
        "F06",
        &["f06_artifactory_wants_no_single_request_uploads"],
        "only a passing refusal; a lasting one is not built for",
    ),
    ("F07", &[], "asked for later; the refused sparse index cannot arise"),
    ("F08", &[], "asked for later"),
    ("F09", &["f09_acr_resets_what_is_too_large_and_storage_sees_no_credentials"], ""),
    ("F10", &["f10_google_takes_three_images_without_chunks_and_mounts"], ""),
    (
        "F11",
        &["c09_what_a_target_says_of_the_bytes_it_has_got_is_not_trusted_blindly"],
        "the rest is asked for later",
    ),
    (
        "F12",
        &[
            "f12_registry_k8s_io_is_pulled_from_through_redirects_and_bursts",
            "f12_registry_k8s_io_with_one_region_that_refuses_still_delivers",
        ],
        "",
    ),
    ("F13", &["f13_a_registry_without_digests_in_its_headers_is_read_by_its_bytes"], ""),
    ("F14", &["the_whole_selection_goes_from_one_docker_registry_to_another_byte_for_byte"], ""),
    ("F15", &[], "no binary of distribution 3 at hand"),
    (
        "G01",
        &[
            "killed_anywhere_it_leaves_no_broken_tag_and_the_next_run_sends_no_finished_blob_again",
            "killed_half_way_to_a_docker_registry_it_is_repaired_by_running_it_again",
        ],
        "",
    ),
    (
        "G02",
        &[
            "one_signal_ends_it_in_order_and_the_next_run_does_the_rest",
            "a_second_signal_ends_it_at_once",
            "a_reader_that_leaves_early_is_no_error",
        ],
        "",
    ),
    ("G03", &["g03_wrong_use_ends_with_2_before_any_request"], ""),
    ("G04", &["g04_three_of_thirty_fail_in_three_ways_and_all_others_are_done"], ""),
    ("G05", &["g05_after_a_failure_only_the_failed_image_moves_bytes"], ""),
    (
        "G06",
        &[
            "g06_two_runs_at_once_do_each_other_no_harm",
            "g06_a_blob_that_another_run_has_just_brought_is_not_sent_twice",
        ],
        "",
    ),
    (
        "G08",
        &[
            "g08_a_target_that_takes_nothing_any_more_is_given_up_with_its_words",
            "g08_a_target_that_goes_away_for_good_is_given_up",
            "g08_a_target_that_restarts_without_its_sessions_is_ridden_through",
            "g08_credentials_that_are_withdrawn_half_way_end_the_run",
            "a_full_target_keeps_what_fits_and_takes_the_rest_once_there_is_room",
            "r4_a_read_only_target_is_given_up_with_that_word",
            "r6_a_target_that_is_killed_and_back_after_two_seconds_gets_everything",
        ],
        "not shown: a certificate that is swapped half-way",
    ),
    ("G09", &[], "nothing is spooled"),
    ("G10", &["g10_a_dry_run_makes_no_request_and_a_check_none_that_writes"], ""),
    ("G11", &["piped_output_has_no_control_characters_whatever_a_registry_says"], ""),
    ("G12", &["g12_a_slow_host_does_not_starve_the_others", "g12_few_file_descriptors_are_enough"], ""),
    ("G13", &["g13_a_run_that_is_killed_leaves_the_old_report_whole"], ""),
    ("G14", &["g14_images_that_never_existed_cost_one_request_each_and_nothing_else"], ""),
    ("G15", &[], "the catalog is embedded: nothing is looked up"),
    (
        "H01",
        &[
            "what_no_proxy_names_is_not_proxied",
            "what_no_proxy_covers_is_reached_directly",
            "a_target_on_loopback_is_never_proxied",
            "loopback_has_no_proxy",
            "a_plain_http_source_goes_through_the_proxy_for_plain_http",
            "a_socks_proxy_is_told_the_name_or_the_address",
            "a_proxy_behind_tls_is_verified_like_any_host",
            "a_login_at_the_proxy_is_shown_to_the_proxy_alone",
            "a_proxy_that_cannot_be_used_is_not_passed_over",
            "each_scheme_has_its_variables_and_all_proxy_is_for_both",
        ],
        "HTTP_PROXY in upper case counts, unlike with curl, unless REQUEST_METHOD says that it may be a client's header",
    ),
    (
        "H02",
        &[
            "a_proxy_that_refuses_is_named",
            "a_proxy_that_is_not_there_is_told_for_the_sources_it_was_for",
            "a_plain_http_source_goes_through_the_proxy_for_plain_http",
            "a_socks_proxy_is_told_the_name_or_the_address",
            "a_proxy_behind_tls_is_verified_like_any_host",
        ],
        "a proxy with an authority of its own is to the program a host with one: trust.rs",
    ),
    (
        "H03",
        &["d08_a_target_may_think_about_what_it_got_for_longer_than_about_anything_else"],
        "a source that sends nothing for a minute is asked again: d08, d09",
    ),
    (
        "H05",
        &[
            "an_authority_of_ones_own_is_trusted_by_flag_by_variable_or_by_directory",
            "an_expired_certificate_and_one_for_another_name_are_told_apart",
            "a_certificate_that_nobody_vouches_for_fails_every_image_and_names_the_way_out",
            "a_client_certificate_opens_a_registry_behind_nginx",
            "a_docker_registry_that_wants_a_client_certificate_is_told_as_such",
            "a_docker_registry_behind_tls_is_trusted_by_its_authority",
            "a_registrys_directory_is_good_for_its_token_service",
            "a_system_without_authorities_gets_the_public_ones_that_the_program_carries",
            "the_public_authorities_are_carried",
            "an_empty_bundle_is_refused",
            "a_directory_for_a_registry_is_read_whole_or_not_at_all",
        ],
        "TLS 1.0 is not spoken by the library",
    ),
    (
        "H06",
        &[
            "a_host_that_speaks_no_tls_is_shown_nothing_and_the_way_out_is_told",
            "plain_http_to_a_port_with_tls_is_told_as_such",
            "a_token_service_without_tls_does_not_take_it_from_the_registry",
        ],
        "",
    ),
    (
        "H07",
        &[
            "insecure_does_not_cover_a_source",
            "insecure_does_not_cover_the_targets_token_service",
            "insecure_concerns_the_target_alone",
            "a_proxy_behind_tls_is_verified_like_any_host",
        ],
        "",
    ),
    (
        "H08",
        &[],
        "needs root and a network of its own; by hand, 5 % and 20 % of all packets lost at 300 ms there and back: exit 0, every byte right",
    ),
    (
        "S01",
        &[
            "a_token_service_at_a_metadata_address_gets_nothing",
            "a_token_service_that_is_no_plain_address_gets_nothing",
            "a_public_registry_cannot_send_the_login_to_plain_http_or_into_a_private_network",
            "a_name_that_resolves_to_a_forbidden_address_is_not_connected_to",
            "a_token_service_is_as_near_as_the_registry_or_public",
            "a_token_service_that_redirects_is_not_followed",
            "a_redirected_host_that_asks_for_a_login_gets_none",
            "an_upload_location_on_another_host_that_asks_for_a_login_gets_none",
        ],
        "nothing is fetched from a layer's urls, and no list is read page by page",
    ),
    (
        "S02",
        &[
            "a_redirect_to_a_metadata_address_is_refused",
            "an_upload_location_at_a_metadata_address_is_refused",
            "a_proxy_called_localhost_opens_no_way_to_this_machine",
            "addresses_are_judged_in_every_disguise",
            "odd_ways_to_write_an_address_are_seen_through",
            "a_name_that_resolves_to_a_forbidden_address_is_not_connected_to",
        ],
        "behind a proxy, which looks names up itself, only addresses are judged",
    ),
    ("S03", &["e15_a_digest_that_is_none_is_refused_before_any_request_with_it"], ""),
    ("S04", &[], "not built: archives"),
    ("S05", &[], "not built: layouts"),
    ("S06", &[], "not built: layouts"),
    (
        "S07",
        &[
            "what_a_source_says_does_nothing_to_a_terminal",
            "what_a_target_says_does_nothing_to_a_terminal",
            "a_proxy_that_refuses_is_named",
            "strangers_text_is_made_harmless",
            "odd_error_bodies_are_told_in_short",
        ],
        "",
    ),
    (
        "S08",
        &[
            "a_body_without_an_end_costs_little",
            "a_body_that_grows_a_thousandfold_is_stopped",
            "d01_d09_a_manifest_that_is_cut_or_trickles_is_asked_for_again",
            "e16_manifests_beyond_all_measure_are_refused_soon",
            "a_file_of_logins_without_an_end_is_refused",
        ],
        "",
    ),
    (
        "S09",
        &[
            "no_secret_is_written_where_all_goes_well",
            "no_secret_is_written_where_things_fail",
            "no_secret_is_written_where_logins_tokens_and_blobs_are_bad",
            "a_password_in_an_address_on_the_command_line_is_not_quoted",
            "a_login_at_the_proxy_is_shown_to_the_proxy_alone",
            "nothing_secret_is_printed",
            "what_was_shown_is_not_shown_again",
            "a_login_is_decoded_and_never_shown",
        ],
        "",
    ),
    (
        "S10",
        &["a_report_is_readable_by_its_user_alone", "the_report_file_is_json_for_its_owner_alone"],
        "nothing else is written: no spool, no logins, no archive",
    ),
    (
        "S11",
        &[
            "a_credential_helper_is_asked_for_the_server_by_its_name",
            "a_helper_without_a_login_leaves_the_way_to_other_places",
            "a_helper_that_fails_is_named_and_what_it_printed_is_not",
            "a_helper_with_a_path_for_a_name_is_never_run",
            "helpers_without_a_plain_name_are_not_run",
            "a_helper_that_fails_is_asked_once",
            "a_helper_that_hangs_is_not_waited_for",
            "a_helper_for_one_host_that_has_no_login_is_named",
            "ecr_is_shown_what_its_helper_prints_with_each_request",
            "google_sells_tokens_for_what_its_helpers_print",
            "azure_exchanges_an_identity_token",
        ],
        "",
    ),
    (
        "S12",
        &[
            "what_would_take_for_ever_is_refused_at_its_line",
            "what_is_far_too_large_is_not_read_to_its_end",
            "a_byte_order_mark_is_no_part_of_the_text",
            "a_key_that_is_not_known_is_told_where_all_are",
            "numbers_and_old_truth_values_are_not_taken_for_texts",
            "what_would_expand_without_end_is_refused",
        ],
        "",
    ),
    (
        "S14",
        &[
            "a_list_of_images_cannot_speak_to_a_ci_system",
            "what_a_source_says_does_nothing_to_a_terminal",
            "what_a_target_says_does_nothing_to_a_terminal",
            "strangers_text_is_made_harmless",
        ],
        "",
    ),
    (
        "S15",
        &[
            "no_text_makes_a_parser_panic",
            "no_challenge_makes_the_parser_fail_or_hang",
            "no_content_range_makes_the_parser_fail",
            "no_retry_after_makes_the_parser_or_the_patience_fail",
            "no_json_makes_the_parser_fail",
            "nesting_and_length_are_bounded",
            "no_logins_make_the_parser_fail_or_be_quoted",
            "no_answer_makes_the_parser_fail_or_a_message_long",
        ],
        "",
    ),
];

/// All of the text below a directory.
fn text_below(directory: &std::path::Path, text: &mut String) {
    for entry in std::fs::read_dir(directory).expect("the sources are there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            text_below(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("a source is text"));
        }
    }
}

#[test]
fn every_case_has_tests_that_exist_or_a_reason_why_not() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    text_below(&root.join("src"), &mut text);
    text_below(&root.join("tests"), &mut text);
    for (id, tests, note) in CASES {
        assert!(!tests.is_empty() || !note.is_empty(), "{id} is neither shown nor explained");
        for test in *tests {
            assert!(text.contains(&format!("fn {test}(")), "{id}: there is no {test}");
        }
    }
}
