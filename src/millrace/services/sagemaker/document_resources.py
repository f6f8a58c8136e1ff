"""Resources that are plain documents under a name: Describe, Delete and List derived from one description of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from millrace.errors import DiskFull, StoreFull, ValidationError
from millrace.names import sagemaker_arn
from millrace.ports.documents import Document, DocumentExists
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.sagemaker.backends import Backends
from millrace.services.sagemaker.document_listing import list_documents
from millrace.services.sagemaker.tags import delete_all_tags, set_tags

__all__ = ["DocumentResource", "create", "find", "standard_handlers"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentResource:
    """One kind of resource. `operation` is its name in operations, such as "EndpointConfig"."""

    kind: str
    """As in its ARN."""
    operation: str
    words: str
    """As in the service's messages."""
    describe: Callable[[Document], Result]
    """Members of the Describe answer beside ARN and creation time."""

    def arn(self, context: Context, name: str) -> str:
        """Return the ARN of one of them."""
        return str(sagemaker_arn(self.kind, name, region=context.region, account=context.account))

    def summary(self, context: Context, document: Document) -> Result:
        """Return its entry in a List answer."""
        return {
            f"{self.operation}Name": document.name,
            f"{self.operation}Arn": self.arn(context, document.name),
            "CreationTime": document.created_at,
        }


async def find(resource: DocumentResource, backends: Backends, context: Context, name: str) -> Document:
    """Return a resource's document; raises the service's own error if there is none."""
    document = await backends.documents.find(resource.kind, context.region, name)
    if document is None:
        raise ValidationError(f'Could not find {resource.words} "{resource.arn(context, name)}".')
    return document


async def create(resource: DocumentResource, backends: Backends, context: Context, params: Params) -> Result:
    """Store a Create request as a new document, its tags apart; a taken name is refused in the service's words."""
    name: str = params[f"{resource.operation}Name"]
    arn = resource.arn(context, name)
    content = {key: value for key, value in params.items() if key != "Tags"}
    try:
        await backends.documents.put(resource.kind, context.region, name, content, create=True)
    except DocumentExists:
        raise ValidationError(f'Cannot create already existing {resource.words} "{arn}".') from None
    except StoreFull as exc:
        raise DiskFull from exc
    await set_tags(backends.documents, context.region, arn, params.get("Tags"))
    return {f"{resource.operation}Arn": arn}


def standard_handlers(resource: DocumentResource, backends: Backends) -> Mapping[str, Handler]:
    """Return the handlers that all such resources have alike."""
    documents = backends.documents
    name_param = f"{resource.operation}Name"

    async def describe(context: Context, params: Params) -> Result:
        document = await find(resource, backends, context, params[name_param])
        return {**resource.describe(document), **resource.summary(context, document)}

    async def delete(context: Context, params: Params) -> None:
        document = await find(resource, backends, context, params[name_param])
        await documents.delete(resource.kind, context.region, document.name)
        await delete_all_tags(documents, context.region, resource.arn(context, document.name))

    async def list_all(context: Context, params: Params) -> Result:
        page, token = list_documents(await documents.list(resource.kind, context.region), params)
        entries = [resource.summary(context, document) for document in page]
        return {f"{resource.operation}s": entries, "NextToken": token}

    return {
        f"Describe{resource.operation}": describe,
        f"Delete{resource.operation}": delete,
        f"List{resource.operation}s": list_all,
    }
