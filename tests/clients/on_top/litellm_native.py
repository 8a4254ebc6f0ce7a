"""`litellm` as people point it at Ollama: provider `ollama_chat`, and `ollama` for embeddings."""

from litellm_part import Provider, main
from part import BASE

main(Provider(chat="ollama_chat", embed="ollama", base=BASE))
