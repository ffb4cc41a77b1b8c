-- One audit row. The actor is the login that called, whoever owns the function.
create or replace function odf.log_event(p_kind text, p_subject text, p_message text, p_detail jsonb default null)
returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  insert into event (at, kind, actor, subject, message, detail)
  values (odf.clock(), p_kind, session_user, p_subject, p_message, p_detail);
end $$;

create or replace function odf.count_bug(p_name text, p_n bigint, p_example text) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  insert into bug_count (name, n, last_at, last) values (p_name, p_n, odf.clock(), p_example)
  on conflict (name) do update set n = bug_count.n + excluded.n, last_at = excluded.last_at, last = excluded.last;
  perform odf.log_event('bug', p_name, format('%s repaired, for example %s', p_n, p_example));
end $$;
