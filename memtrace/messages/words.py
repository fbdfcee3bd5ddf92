"""The words by which the providers' APIs and the frameworks name the parts of a message."""

from __future__ import annotations

CALL_TYPES = frozenset(
    "function_call custom_tool_call computer_call local_shell_call shell_call apply_patch_call "
    "tool_use tool_call tool-call".split()
)
RESULT_TYPES = frozenset(
    "function_call_output custom_tool_call_output computer_call_output local_shell_call_output "
    "shell_call_output apply_patch_call_output tool_result tool-return tool-result".split()
)
THINKING_TYPES = frozenset("thinking redacted_thinking reasoning compaction".split())
# Calls that the provider answers itself, in the same item: no other item belongs to them.
HOSTED_TYPES = frozenset(
    "web_search_call file_search_call code_interpreter_call image_generation_call mcp_call "
    "mcp_list_tools mcp_approval_request tool_search_call".split()
)
MEDIA_TYPES = {
    "image_url": "image",
    "input_image": "image",
    "image": "image",
    "image-url": "image",
    "computer_screenshot": "image",
    "image_generation_call": "image",
    "input_audio": "audio",
    "audio": "audio",
    "audio-url": "audio",
    "video": "video",
    "video_url": "video",
    "video-url": "video",
    "input_file": "document",
    "file": "document",
    "document": "document",
    "document-url": "document",
    "inline_data": "binary",
    "inlineData": "binary",
    "file_data": "binary",
    "fileData": "binary",
    "media": "binary",
    "binary": "binary",
}
BARE_MEDIA = ("inline_data", "inlineData", "file_data", "fileData", "image", "document", "video")
BARE_CALLS = ("function_call", "functionCall", "toolUse")
BARE_RESULTS = ("function_response", "functionResponse", "toolResult")
IDS = ("call_id", "tool_call_id", "tool_use_id", "toolUseId", "toolCallId", "id")
NAMES = ("name", "tool_name", "toolName")
ARGUMENTS = ("arguments", "input", "args", "tool_kwargs", "action", "operation", "commands")
OUTPUTS = ("content", "output", "response", "result")
THOUGHTS = ("thinking", "reasoning", "text", "content", "summary", "reasoningText")
PAYLOADS = (
    "data source url image_url video_url audio_url file file_data input_audio image_bytes bytes "
    "base64 b64_json result inline_data inlineData image document video"
).split()
UNCOUNTED = frozenset(
    "type id role status call_id tool_use_id tool_call_id signature thought_signature "
    "thoughtSignature cache_control cachePoint encrypted_content encrypted_index data part_kind "
    "block_type timestamp annotations caller".split()
)
