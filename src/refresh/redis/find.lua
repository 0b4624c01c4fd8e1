-- Looks at a record, which prolongs it.
local r = load()
if not r then return nil end
local left = prolong(r)
return { stored(r), left, due(left) }
