"""The Lua that makes each change of the counters one atomic step. Times are Redis's own, in milliseconds.

A day whose pool has no `global_used` is unknown: nothing is reserved before REBUILD has set it. Each change that takes
something out of what is held raises the pool's `epoch`, so that a rebuild from an older reading of the ledger fails.
"""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# KEYS: global, user, guests ('' for none), reservations, reservation, service key ('' for none), user on the day that
#       the cooldown reaches back to
# ARGV: id, mode, points, count, pool limit, share limit, mode limit, cooldown (-1: not about this mode), lifetime,
#       ttl of counters (s),
#       user id, guest address, day, note, service key's id ('' for none), its cap ('' for none)
RESERVE = (
    _NOW
    + """
local state = redis.call('HGET', KEYS[5], 'state')
if state == 'reserved' or state == 'committed' then
  local held = redis.call('HMGET', KEYS[5], 'made_at', 'day', 'note')
  if state == 'reserved' then redis.call('ZADD', KEYS[4], now + tonumber(ARGV[9]), ARGV[1]) end
  return {'held', held[1], held[2], state, held[3]}
end
if redis.call('HEXISTS', KEYS[1], 'global_used') == 0 then return {'unknown_day'} end
local points, count = tonumber(ARGV[3]), tonumber(ARGV[4])
local cooldown = tonumber(ARGV[8])
local function generated(key) return tonumber(redis.call('HGET', key, 'last_generation')) or 0 end
local last = math.max(generated(KEYS[2]), generated(KEYS[7]))
if now - last < cooldown then return {'cooldown', tostring(cooldown - (now - last))} end
local function used(key, field) return tonumber(redis.call('HGET', key, field)) or 0 end
if used(KEYS[1], 'global_used') + points > tonumber(ARGV[5]) then return {'pool'} end
if KEYS[3] ~= '' and used(KEYS[3], 'points') + points > tonumber(ARGV[6]) then return {'guest_share'} end
local mode_field = 'mode:' .. ARGV[2]
if used(KEYS[2], mode_field) + count > tonumber(ARGV[7]) then return {'mode'} end
if ARGV[16] ~= '' and used(KEYS[6], 'points') + points > tonumber(ARGV[16]) then return {'service_key'} end
redis.call('HINCRBY', KEYS[1], 'global_used', points)
redis.call('HINCRBY', KEYS[2], mode_field, count)
if cooldown >= 0 then redis.call('HSET', KEYS[2], 'last_generation', now) end
redis.call('EXPIRE', KEYS[2], ARGV[10])
for _, key in ipairs({KEYS[3], KEYS[6]}) do
  if key ~= '' then
    redis.call('HINCRBY', key, 'points', points)
    redis.call('EXPIRE', key, ARGV[10])
  end
end
redis.call('ZADD', KEYS[4], now + tonumber(ARGV[9]), ARGV[1])
redis.call('HSET', KEYS[5], 'state', 'reserved', 'mode', ARGV[2], 'points', points, 'count', count,
  'user_id', ARGV[11], 'guest_address', ARGV[12], 'day', ARGV[13], 'note', ARGV[14], 'made_at', now,
  'service_key_id', ARGV[15])
redis.call('EXPIRE', KEYS[5], ARGV[10])
return {'reserved', tostring(now), ARGV[13], 'reserved', ARGV[14]}
"""
)

# A call that is not metered is only marked as under way, for the sweep. KEYS: reservations, reservation
# ARGV: id, mode, lifetime, ttl (s), user id, day, note
HOLD = (
    _NOW
    + """
local found = redis.call('HMGET', KEYS[2], 'state', 'made_at', 'day', 'note')
if found[1] ~= 'reserved' then
  redis.call('HSET', KEYS[2], 'state', 'reserved', 'mode', ARGV[2], 'points', 0, 'count', 1, 'user_id', ARGV[5],
    'guest_address', '', 'day', ARGV[6], 'note', ARGV[7], 'made_at', now)
  redis.call('EXPIRE', KEYS[2], ARGV[4])
  found = {'reserved', tostring(now), ARGV[6], ARGV[7]}
end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
return {'held', found[2], found[3], found[1], found[4]}
"""
)

# KEYS: global, user, guests ('' for none), reservations, reservation, service key ('' for none)
# ARGV: id, how many of the reservation's images were delivered, ttl of counters (s), 1 to stay listed when released
# A counter that Redis has lost is left alone: counted down from nothing it would let others have what is not there.
SETTLE = """
local state = redis.call('HGET', KEYS[5], 'state')
if not state then return 'unknown' end
if state ~= 'reserved' then
  if ARGV[4] == '0' then redis.call('ZREM', KEYS[4], ARGV[1]) end
  return state
end
local held = redis.call('HMGET', KEYS[5], 'mode', 'points', 'count')
local points, count = tonumber(held[2]), tonumber(held[3])
local delivered = math.min(tonumber(ARGV[2]), count)
local undelivered = count - delivered
local back = count > 0 and math.floor(points * undelivered / count) or 0
local function give_back(key, field, amount)
  if redis.call('HEXISTS', key, field) == 1 then redis.call('HINCRBY', key, field, -amount) end
end
give_back(KEYS[1], 'global_used', back)
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('EXPIRE', KEYS[1], ARGV[3])
give_back(KEYS[2], 'mode:' .. held[1], undelivered)
for _, key in ipairs({KEYS[3], KEYS[6]}) do
  if key ~= '' then give_back(key, 'points', back) end
end
state = delivered > 0 and 'committed' or 'released'
redis.call('HSET', KEYS[5], 'state', state, 'points', points - back, 'count', delivered)
if state == 'committed' or ARGV[4] == '0' then redis.call('ZREM', KEYS[4], ARGV[1]) end
return state
"""

# KEYS: reservations, reservation.   ARGV: id.   One that was made anew since it was released stays.
DISMISS = """
if redis.call('HGET', KEYS[2], 'state') == 'released' then redis.call('ZREM', KEYS[1], ARGV[1]) end
"""

# KEYS: reservations, reservation.   ARGV: id, lifetime, ttl (s).   One that has ended stays ended.
EXTEND = (
    _NOW
    + """
if redis.call('HGET', KEYS[2], 'state') ~= 'reserved' then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
return redis.call('EXPIRE', KEYS[2], ARGV[3])
"""
)

# Set a day's counters to what the ledger says, plus what is held and not in the ledger yet.
# KEYS: global, reservations.   ARGV: JSON {epoch, ttl, pool, user_key, guests_key, service_key, reservation_key
#   (prefixes), day, users = [{id, mode, count}], guests = [{address, points}], service_keys = [{id, points}],
#   charged = {reservation id: images in the ledger},
#   holds = [{id, user_id, guest_address, service_key_id, mode, points, count, made_at}], lifetime}
# A hold of a task that Redis has lost is put back, as if it had just been reserved.
# `charged` has the whole day: a reservation made after the epoch was read may be in the ledger by now, and must not
# count twice. A change since the ledger was read (another epoch, or none after Redis was emptied) makes this a no-op
# that returns 0.
REBUILD = (
    _NOW
    + """
local given = cjson.decode(ARGV[1])
if (tonumber(redis.call('HGET', KEYS[1], 'epoch')) or 0) ~= given.epoch then return 0 end
local pool = given.pool
local touched = {}
local function add(key, field, amount)
  if not touched[key .. field] then
    touched[key .. field] = true
    redis.call('HSET', key, field, 0)
    redis.call('EXPIRE', key, given.ttl)
  end
  redis.call('HINCRBY', key, field, amount)
end
for _, row in ipairs(given.users) do add(given.user_key .. row.id, 'mode:' .. row.mode, row.count) end
for _, row in ipairs(given.guests) do add(given.guests_key .. row.address, 'points', row.points) end
for _, row in ipairs(given.service_keys) do add(given.service_key .. row.id, 'points', row.points) end
for _, hold in ipairs(given.holds) do
  local key = given.reservation_key .. hold.id
  if redis.call('EXISTS', key) == 0 then
    redis.call('HSET', key, 'state', 'reserved', 'mode', hold.mode, 'points', hold.points, 'count', hold.count,
      'user_id', hold.user_id, 'guest_address', hold.guest_address, 'day', given.day, 'note', '',
      'made_at', string.format('%.0f', hold.made_at), 'service_key_id', hold.service_key_id)
    redis.call('EXPIRE', key, given.ttl)
    redis.call('ZADD', KEYS[2], now + given.lifetime, hold.id)
  end
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local key = given.reservation_key .. id
  local held = redis.call('HMGET', key, 'mode', 'points', 'count', 'user_id', 'guest_address', 'day', 'state',
    'service_key_id')
  if held[6] == given.day and held[7] == 'reserved' then
    local count = tonumber(held[3])
    local open = count - (given.charged[id] or 0)
    if open <= 0 then
      redis.call('HSET', key, 'state', 'committed')
      redis.call('ZREM', KEYS[2], id)
    else
      local points = math.floor(tonumber(held[2]) * open / count)
      pool = pool + points
      add(given.user_key .. held[4], 'mode:' .. held[1], open)
      if held[5] ~= '' then add(given.guests_key .. held[5], 'points', points) end
      if held[8] and held[8] ~= '' then add(given.service_key .. held[8], 'points', points) end
    end
  end
end
redis.call('HSET', KEYS[1], 'global_used', pool, 'epoch', given.epoch + 1)
redis.call('EXPIRE', KEYS[1], given.ttl)
return 1
"""
)
