"""`litellm` with its provider `openai` at the `/v1` of a running gateway."""

from litellm_part import Provider, main
from part import BASE

main(Provider(chat="openai", embed="openai", base=f"{BASE}/v1"))
