-- The epoch of fences: the server's timeline (a promotion raises it) plus the installation's offset
-- (a restore raises it). The insertion point's segment name is read because the control file's
-- timeline lags behind a promotion until the next checkpoint.
create or replace function odf.epoch() returns bigint
language plpgsql volatile security definer set search_path = odf, pg_temp as $$
begin
  return ('x' || lpad(left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), 16, '0'))::bit(64)::bigint
         + (select epoch_offset from installation);
end $$;
