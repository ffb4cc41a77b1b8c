-- Leadership: one row, a term that grows with every takeover, an expiry by the server's own clock.

-- Renews for the holder, or takes over an expired term. Answers {term, leader, holder, expires_ms}.
create or replace function odf.lead(p_holder text, p_ttl interval) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v leader;
begin
  update leader set expires = clock_timestamp() + p_ttl
   where holder = p_holder and expires > clock_timestamp() returning * into v;
  if not found then
    update leader set term = term + 1, holder = p_holder, since = clock_timestamp(), expires = clock_timestamp() + p_ttl
     where expires <= clock_timestamp() returning * into v;
    if found then
      perform odf.log_event('coordinator.leads', p_holder, format('term %s', v.term));
    else
      select * into v from leader;
    end if;
  end if;
  return jsonb_build_object('leader', v.holder = p_holder, 'term', v.term, 'holder', v.holder,
    'expires_ms', greatest(0, extract(epoch from v.expires - clock_timestamp()) * 1000)::bigint);
end $$;

-- Steps down at once, so that a successor need not wait for the expiry.
create or replace function odf.resign(p_term bigint) returns boolean
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  update leader set expires = '-infinity' where term = p_term;
  return found;
end $$;

-- Every leader-only pass starts here. FOR KEY SHARE holds off a takeover (which changes the key) until
-- the pass commits, but not the leader's own renewals.
create or replace function odf.prove_term(p_term bigint) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  perform odf.demand_read_committed();
  -- No protocol write may be lost in a crash after it was answered, whatever the server's default is.
  if current_setting('synchronous_commit') = 'off' then
    perform set_config('synchronous_commit', 'on', true);
  end if;
  perform from leader where term = p_term and expires > clock_timestamp() for key share;
  if not found then
    raise exception 'term % is over', p_term using errcode = 'OD020', hint = 'Another coordinator leads.';
  end if;
end $$;

-- What a loop did, for 'coordinator status --loops'.
create or replace function odf.report_loop(p_term bigint, p_loop text, p_ms bigint, p_result text, p_ok boolean) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  insert into loop_status (loop, term, passes, last_at, last_ms, result, failing_since)
  values (p_loop, p_term, 1, odf.clock(), p_ms, left(p_result, 500), case when not p_ok then odf.clock() end)
  on conflict (loop) do update
    set term = excluded.term, passes = loop_status.passes + 1, last_at = excluded.last_at, last_ms = excluded.last_ms,
        result = excluded.result,
        failing_since = case when not p_ok then coalesce(loop_status.failing_since, excluded.last_at) end
  where loop_status.term <= excluded.term;
end $$;
