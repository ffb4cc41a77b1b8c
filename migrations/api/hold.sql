-- Holds whose time is over: the chunks go on where they would be without the hold, by way of waiting,
-- because an input may have been asked for again meanwhile.
create or replace function odf.release_holds(p_limit int) returns bigint
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_now timestamptz := odf.clock();
  v_ids bigint[];
begin
  v_ids := array(select chunk_id from chunk_state where hold_until <= v_now order by hold_until limit p_limit);
  if v_ids = '{}' then
    return 0;
  end if;
  perform from chunk_state where chunk_id = any (v_ids) order by chunk_id for no key update;
  update chunk_state set status = 'waiting', reason = null, hold_until = null, changed_at = v_now
   where chunk_id = any (v_ids) and status = 'held' and hold_until <= v_now;
  perform odf.log_event('chunks.released', null, format('the hold of %s chunks is over', cardinality(v_ids)));
  return odf.promote_chunks(v_ids);
end $$;
