"""Names of spans and their attributes: OpenTelemetry's GenAI semantic conventions, pinned, and Retune's own.

Version 0.1.0 of github.com/open-telemetry/semantic-conventions-genai, the first of its own (all of it "Development"), which
builds on the general conventions 1.45.0. A later version is taken over here and nowhere else. Strings alone: no OpenTelemetry
package is needed to read them, and the one with constants marks all of these as moved.
"""

VERSION = "0.1.0"

# Operations, with which names of spans begin: `invoke_agent finance`, `chat smollm2`, `execute_tool monthly_payment`
INVOKE_AGENT = "invoke_agent"
CHAT = "chat"
EXECUTE_TOOL = "execute_tool"
RETRIEVAL = "retrieval"
ROUTE = "route"
"""Ours: what the conventions have no operation for carries no `gen_ai.operation.name`."""

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
AGENT_NAME = "gen_ai.agent.name"
AGENT_VERSION = "gen_ai.agent.version"
CONVERSATION = "gen_ai.conversation.id"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
MAX_TOKENS = "gen_ai.request.max_tokens"
RESPONSE_MODEL = "gen_ai.response.model"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOP_K = "gen_ai.retrieval.top_k"

# Content, opt-in by the setting `capture_content`
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
QUERY = "gen_ai.retrieval.query.text"
DOCUMENTS = "gen_ai.retrieval.documents"

# Of the general conventions
ERROR_TYPE = "error.type"
EXCEPTION = "exception"
EXCEPTION_TYPE = "exception.type"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"

# Retune's own
TURN = "retune.turn.id"
BUNDLE = "retune.bundle"
INTENT = "retune.intent"
CONFIDENCE = "retune.confidence"
OUT_OF_SCOPE = "retune.out_of_scope"
STATE = "retune.state"
FLAGS = "retune.flags"
ABSTAINED = "retune.abstained"
ENGINE = "retune.engine"
PASSAGES = "retune.passages"
