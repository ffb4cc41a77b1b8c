-- odf.chunk: what people read, and update with plain SQL. Only resubmit, held and cancelled may be
-- written; a request row is queued for each chunk and all of a statement are applied set-wise.
create or replace view odf.chunk as
  select f.name as flow, d.name as dataset, c.key, d.name || '/' || c.key as name,
         odf.shown_status(c.chunk_id, s.status) as status, c.ordinal, s.attempt_no - c.attempt_base as attempts, s.charged, s.generation,
         s.rows_out as rows, s.bytes_out as bytes, s.reason, s.retry_at, s.changed_at, c.bounds, c.chunk_id,
         s.stale_since, s.hold_until
    from odf.data_set d
    join odf.flow f using (flow_id)
    join odf.data_chunk c on c.plan_id = d.plan_id
    join odf.chunk_state s on s.chunk_id = c.chunk_id
   where not d.retired;

create or replace function odf.queue_request() returns trigger
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  s chunk_state;
begin
  perform odf.demand_read_committed();
  if new.status is not distinct from old.status and new.reason is not distinct from old.reason then
    return new;
  end if;
  if new.status not in ('resubmit', 'held', 'cancelled') then
    raise exception 'chunk % cannot be set to %: only resubmit, held and cancelled may be written', old.name, new.status
      using errcode = 'OD011', hint = 'update odf.chunk set status = ''resubmit'' where name = ' || quote_literal(old.name);
  end if;
  select * into s from chunk_state where chunk_id = old.chunk_id;
  if not odf.may_request(s, new.status::text) then
    raise exception 'chunk % is % and cannot be set to %', old.name, old.status, new.status using errcode = 'OD011',
      hint = case when exists (select from job j where j.data_set_id = s.data_set_id and not j.retired)
                  then 'See docs: life of a chunk.' else 'It belongs to a source: no job of this flow makes it.' end;
  end if;
  insert into chunk_request (chunk_id, data_set_id, verb, reason, requested_by, requested_at)
  values (old.chunk_id, s.data_set_id, new.status::text, coalesce(nullif(new.reason, old.reason), 'SQL by ' || session_user),
          session_user, odf.clock());
  return new;
end $$;

create or replace function odf.apply_queued_requests() returns trigger
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  -- A person's transaction that stays open keeps what it locked from being settled.
  if current_setting('idle_in_transaction_session_timeout') = '0' then
    perform set_config('idle_in_transaction_session_timeout', '30s', true);
  end if;
  if exists (select from chunk_request) then
    perform odf.apply_requests(null);
    perform odf.log_event('chunks.sql', null, 'chunk requests by SQL');
  end if;
  return null;
end $$;

create or replace trigger chunk_requested instead of update on odf.chunk
  for each row execute function odf.queue_request();
create or replace trigger chunk_requests_apply after update on odf.chunk
  for each statement execute function odf.apply_queued_requests();
