-- Every function that decides under locks starts here (or with a function that does). At a stricter
-- isolation level what it reads after waiting for a lock would be as it was before it waited: a lease,
-- a right or a limit that was committed meanwhile would be missing, and the decision wrong.
-- Reads no table and is called by definer's functions alone, whose search path it keeps.
create or replace function odf.demand_read_committed() returns void
language plpgsql as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'transaction isolation is %, read committed was expected', current_setting('transaction_isolation')
      using errcode = 'OD002', hint = 'Use read committed: name no other level in BEGIN, and reset default_transaction_isolation (of the session, the login or the database).';
  end if;
end $$;
