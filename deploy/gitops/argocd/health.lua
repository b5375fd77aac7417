-- Health of an Evaluation, EvaluationSuite or EvaluationRuntime for Argo CD, from the conditions that kstatus reads too.
local health = {}

local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  health.status = "Progressing"
  health.message = "Waits for Crucible's operator to look at it."
  return health
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local function holds(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end

if holds("Stalled") then
  health.status = "Degraded"
  health.message = conditions.Stalled.reason .. ": " .. conditions.Stalled.message
elseif holds("Ready") then
  health.status = "Healthy"
  health.message = conditions.Ready.message
  -- It ran as it should; what it printed may still not be what spec.expect says.
  if conditions.Passed ~= nil and conditions.Passed.status == "False" then
    health.message = "Ran, and did not pass: " .. conditions.Passed.message
  end
elseif status.queue ~= nil and status.queue.reason == "Paused" then
  health.status = "Suspended"
  health.message = status.queue.message or "Paused."
else
  health.status = "Progressing"
  health.message = status.phase or "Accepted."
  if status.queue ~= nil then
    health.message = health.message .. ": " .. (status.queue.message or status.queue.reason)
  end
end
return health
