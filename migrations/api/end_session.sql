-- A worker signs off, or its successor on the same machine, which holds its lock and its key, does it
-- in its place: what it still leases goes back uncharged and its name is free at once.
create or replace function odf.end_session(p_session bigint, p_key bytea, p_reason text) returns bigint
language plpgsql security definer set search_path = odf, pg_temp set enable_seqscan = off set jit = off as $$
declare
  s worker_session;
  v_released bigint;
begin
  perform odf.hold_rights();
  s := odf.session_of(p_session, p_key, true);
  if s.state in ('dead', 'ended') then
    return 0;
  end if;
  update worker_session set state = 'ended', ended_at = odf.clock(), end_reason = p_reason where session_id = p_session;
  delete from allotment where session_id = p_session;
  v_released := odf.release_leases(p_session, array(select chunk_id from lease where session_id = p_session), p_reason);
  perform odf.log_event('worker.ended', (select name from worker where worker_id = s.worker_id),
    format('session %s: %s; %s chunks handed back', p_session, p_reason, v_released));
  perform odf.allot();
  return v_released;
end $$;
