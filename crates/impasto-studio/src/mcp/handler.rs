//! [`Handler`]: answers the requests of a client.

use super::answer;
use super::call;
use super::look::Look;
use super::pictures::{Painted, Pictures};
use super::tools::Kind;
use crate::finished::Finished;
use crate::options::Options;
use crate::queue::{Event, Queue, Submission};
use crate::refusal::Refusal;
use crate::shared::refuse;
use crate::work::Work;
use impasto::wording::shortened;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation, JsonObject,
    ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use std::sync::Arc;

/// Words for an agent that has just connected.
const INSTRUCTIONS: &str = "Paints pictures with Stable Diffusion. `paint_exact` gives named things exact colors and \
    reports how far each painted color is off (ΔE). Results name each picture, such as `picture:1/0`; give this name to \
    `repaint` and `look`. The latest pictures are kept until the server ends.";

/// The state of a server, and its answers.
pub(super) struct Handler {
    pub(super) queue: Arc<Queue>,
    pub(super) options: Options,
    pub(super) pictures: Arc<Pictures>,
    pub(super) work: Work,
    pub(super) tools: Vec<Tool>,
}

impl Handler {
    /// Answers a call of a tool that paints.
    async fn paint(
        &self,
        kind: Kind,
        arguments: JsonObject,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, Refusal> {
        let (pictures, options) = (Arc::clone(&self.pictures), self.options.clone());
        let submission = self.work.run(move || call::read(kind, arguments, &pictures, &options)).await?;
        let (job, finished) = self.finish(submission, context).await?;
        self.work.run(move || answer::write(job, &finished)).await
    }

    /// Answers a call of the tool that looks at a picture.
    async fn look(
        &self,
        arguments: JsonObject,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, Refusal> {
        let (pictures, options) = (Arc::clone(&self.pictures), self.options.clone());
        let read = move || {
            let look = Look::read(arguments, &pictures, &options)?;
            let submission = look.submission(&options)?;
            Ok((look, submission))
        };
        let (look, submission) = self.work.run(read).await?;
        let run = match submission {
            Some(submission) => Some(Painted { finished: self.finish(submission, context).await?.1, index: 0 }),
            None => look.kept(),
        };
        self.work.run(move || look.write(run.as_ref())).await
    }

    /// Adds a job to the queue and waits for its end. The client is told of the steps if it asked for that. The job is
    /// cancelled if the client cancels its call.
    ///
    /// # Errors
    /// A refusal if the queue has no room, and if the job fails or is cancelled.
    async fn finish(
        &self,
        submission: Submission,
        context: &RequestContext<RoleServer>,
    ) -> Result<(u64, Arc<Finished>), Refusal> {
        let job = self.queue.submit(submission).map_err(refuse)?.id;
        let mut listener = self.queue.listen(job).ok_or_else(|| Refusal::no_job(job))?;
        listener.events.mark_changed(); // the first event may be the last one
        let mut told = 0.0;
        loop {
            tokio::select! {
                changed = listener.events.changed() => {
                    changed.map_err(|_| Refusal::wrong("the server ends"))?;
                }
                () = context.ct.cancelled() => {
                    self.queue.cancel(job);
                    return Err(Refusal::wrong("the call was cancelled"));
                }
            }
            let event = listener.events.borrow_and_update().clone();
            match event {
                Event::Finished(finished) => return Ok((job, finished)),
                Event::Failed(sentence) => return Err(Refusal::wrong(&*sentence)),
                Event::Cancelled => return Err(Refusal::wrong("the call was cancelled")),
                event if event.share() > told => {
                    told = event.share();
                    tell(&event, context).await;
                }
                _ => {}
            }
        }
    }
}

/// Ends the worker, also that of a server that never served.
impl Drop for Handler {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Tells a client of a step, if it asked for that. A client that has left is told nothing.
async fn tell(event: &Event, context: &RequestContext<RoleServer>) {
    let (Some(token), Event::Step { done, total, .. }) = (context.meta.get_progress_token(), event) else { return };
    let progress = ProgressNotificationParam::new(token, event.share()).with_total(1.0);
    let _ = context.peer.notify_progress(progress.with_message(format!("step {done} of {total}"))).await;
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let server = Implementation::new("impasto", env!("CARGO_PKG_VERSION")).with_title("impasto");
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(server)
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.clone()))
    }

    /// Answers a call of a tool. A call that fails has a result with a sentence, which the agent reads.
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(kind) = Kind::by_name(&request.name) else {
            let known = Kind::ALL.map(Kind::name).join(", ");
            let sentence = format!("no tool has the name {:?}; expected one of {known}", shortened(&request.name));
            return Err(ErrorData::invalid_params(sentence, None));
        };
        let arguments = request.arguments.unwrap_or_default();
        let result = match kind {
            Kind::Look => self.look(arguments, &context).await,
            Kind::Paint | Kind::PaintExact | Kind::Repaint => self.paint(kind, arguments, &context).await,
        };
        let refused = |refusal: Refusal| CallToolResult::error(vec![ContentBlock::text(refusal.sentence)]);
        Ok(result.unwrap_or_else(refused).into())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.iter().find(|tool| tool.name == name).cloned()
    }
}
