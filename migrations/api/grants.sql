-- Least privilege, from nothing: PUBLIC loses everything, each role gets what its verbs need. A
-- worker's login can call its functions and read no table at all.
revoke all on schema odf from public;
revoke all on all functions in schema odf from public;
revoke all on all tables in schema odf from public;
grant usage on schema odf to odf_worker, odf_coordinator, odf_operator, odf_viewer;

grant execute on function odf.register(jsonb), odf.beat(bigint, bytea, jsonb), odf.look(bigint, bytea), odf.claim(bigint, bytea, bigint, int),
  odf.settle(bigint, bytea, jsonb), odf.reconcile(bigint, bytea, jsonb), odf.end_session(bigint, bytea, text),
  odf.attempt_inputs(bigint, bytea, bigint, bigint, bigint, int), odf.take_removals(bigint, bytea, int),
  odf.settle_removals(bigint, bytea, jsonb), odf.peek(text), odf.peek_inputs(bigint, bigint, int) to odf_worker;
-- 'worker try' is for people.
grant execute on function odf.peek(text), odf.peek_inputs(bigint, bigint, int) to odf_operator, odf_coordinator;

grant select on all tables in schema odf to odf_viewer, odf_operator, odf_coordinator;
revoke select on odf.worker_session from odf_viewer, odf_operator, odf_coordinator;
grant select (session_id, worker_id, state, host, machine_id, pid, version, protocol, slots, labels, beat_no, beat_at,
  started_at, ended_at, end_reason) on odf.worker_session to odf_viewer, odf_operator, odf_coordinator;
grant execute on function odf.clock(), odf.shown_status(bigint, odf.chunk_status), odf.select_chunks(jsonb),
  odf.pool_limit(odf.pool), odf.unconsumed(int, bigint), odf.replan_now(bigint), odf.made_from(bigint[])
  to odf_viewer, odf_operator, odf_coordinator;

grant execute on function odf.scale(text, text, text, boolean), odf.scale_worker(text, text, text),
  odf.drain_worker(text, boolean, text), odf.pause(text, boolean, text), odf.approve(jsonb, text),
  odf.request(text, jsonb, text, boolean, boolean), odf.request_chunks(text, jsonb, text, jsonb), odf.reject(jsonb, text),
  odf.apply_flow(jsonb), odf.ask_replan(text, text, boolean, boolean), odf.confirm_replan(bigint, boolean),
  odf.withdraw_replan(bigint, text), odf.record_reconciliation(int, jsonb, text) to odf_operator, odf_coordinator;
grant update (status, reason) on odf.chunk to odf_operator;

grant execute on function odf.lead(text, interval), odf.resign(bigint), odf.prove_term(bigint),
  odf.report_loop(bigint, text, bigint, text, boolean), odf.sweep(bigint, jsonb, interval), odf.beats(bigint),
  odf.retry_due(bigint, int), odf.promote(bigint), odf.move_floors(bigint), odf.look_below_floors(bigint),
  odf.fold_progress(bigint), odf.find_stranded(bigint, interval), odf.prune(bigint), odf.watch_space(bigint),
  odf.allot_if_needed(bigint), odf.begin_plan(int), odf.add_chunks(bigint, bigint, jsonb),
  odf.seal_plan(bigint, bigint, text[]), odf.plan_sides(int), odf.add_edges(bigint, text, bigint[], bigint[]),
  odf.add_gaps(bigint, int, text, bigint[], text[], boolean[]), odf.seal_linked(bigint, bigint, text[], bigint[]),
  odf.derive_plan(int), odf.unplanned(), odf.plan_failed(int, text),
  odf.open_replans(bigint), odf.begin_replan(bigint, bigint), odf.prepare_replan(bigint, bigint, jsonb),
  odf.switch_plans(bigint, bigint), odf.fail_replan(bigint, bigint, text, text, boolean)
  to odf_coordinator;
