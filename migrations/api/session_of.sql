-- Proves that the caller is the session it names. With p_lock the session's row is locked, so that
-- one claim, beat or reconciliation runs at a time and a sweep cannot pass in between.
create or replace function odf.session_of(p_session bigint, p_key bytea, p_lock boolean)
returns odf.worker_session
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  s worker_session;
begin
  perform odf.demand_read_committed();
  -- No protocol write may be lost in a crash after it was answered, whatever the server's default is.
  if current_setting('synchronous_commit') = 'off' then
    perform set_config('synchronous_commit', 'on', true);
  end if;
  if p_lock then
    select * into s from worker_session where session_id = p_session for no key update;
  else
    select * into s from worker_session where session_id = p_session;
  end if;
  if s.session_id is null or p_key is null or s.key_sha256 <> sha256(p_key) then
    raise exception 'no session % with that key', p_session
      using errcode = 'OD001', hint = 'Register again: the control database was replaced, or the session was pruned.';
  end if;
  return s;
end $$;
